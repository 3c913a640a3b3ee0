/* The job of one run, in Slurm. */
#ifndef FSCHED_CLI_QUALIFY_JOB_H
#define FSCHED_CLI_QUALIFY_JOB_H

#include "base/status.h"
#include "cli/qualify/session.h"
#include "slurm/rpc/slurm_rpc.h"

struct qualify_job {
	uint32_t id;
	struct slurm_job slurm; /* as of the last look */
	bool enabled;           /* entry is valid */
	struct status entry;
	char *exc_nodes, *req_nodes; /* owned: the user's, as at the submission */
	char *stale; /* owned: the AdminComment of the run before; as long as it is unchanged, no new agent has
			published */
};

/* Submits the script with the working directory dir/work and its output in dir/stdout and dir/stderr; dir is absolute.
 * pod: with --checkpoint=UNLIMITED. 0, or -1 with err, and then no job is left. */
int qualify_job_submit(struct session *s, const char *dir, bool pod, struct qualify_job *j, struct err *err);
void qualify_job_free(struct qualify_job *j);

/* Asks Slurm. 0; -1 with err: it cannot be asked now (j stays as it is), or, if err->num is ESRCH, it does not know the
 * job. */
int qualify_job_look(struct qualify_job *j, struct err *err);

/* Conditions for qualify_job_wait(). */
bool qualify_job_over(const struct qualify_job *j); /* ended, and no process of it is left */
bool qualify_job_runs(const struct qualify_job *j); /* its script runs, and fsched's agent, if it has one, answers */
bool qualify_job_held(const struct qualify_job *j); /* waits, is held, and no process of it is left */

enum qualify_wait { QUALIFY_READY, QUALIFY_LATE, QUALIFY_WAIT_STOPPED, QUALIFY_LOST };
/* Looks at the job until it is over or ready() is true, or until now_us() is until. LOST with err: Slurm does not know
 * it. doing: for the terminal. */
enum qualify_wait qualify_job_wait(struct session *s, struct qualify_job *j, bool (*ready)(const struct qualify_job *j),
				   const char *doing, int64_t until, struct err *err);

/* Cancels the job that the session has in Slurm, if there is one, and waits until it has ended. Errors are printed. */
void qualify_job_cancel(struct session *s);

/* Whether the script asks for something by a line #SBATCH that makes runs impossible: -1 with err. *checkpoint: it asks
 * for
 * --checkpoint. */
int qualify_job_check_script(const char *text, bool *checkpoint, struct err *err);
/* The same for words of the command line. */
int qualify_job_check_words(char *const *words, size_t n, bool *checkpoint, struct err *err);

#endif
