/* The parts of the SPANK plugin in a batch step. Two processes use them: T, which runs as root and becomes the agent,
 * and P3, which becomes the job's script. */
#ifndef FSCHED_SLURM_PLUGIN_SPANK_FSCHED_H
#define FSCHED_SLURM_PLUGIN_SPANK_FSCHED_H

#include <sys/types.h>
#include <jansson.h>
#include <slurm/spank.h>
#include "base/err.h"
#include "pod/outer_namespaces.h"
#include "slurm/option.h"

struct spank_args { /* arguments of the line in plugstack.conf */
	char libexec[4096];
	char conf[4096]; /* "" = searched for (base/conf.h) */
};

struct spank_batch {            /* a batch step; value "": its job does not have the option */
	char value[OPTION_MAX]; /* the option as found in the job's environment, not validated */
	char user[64];
	pid_t stepd;
	char user_ns[NAMESPACE_NAME]; /* of slurmstepd */
	/* The hooks as found there, not validated; "" = none. */
	char hook_signal[64], hook_before[OPTION_COMMAND_MAX], hook_after[OPTION_COMMAND_MAX];
};

struct spank_script {                /* what P3 needs */
	int gate;                    /* owned; -1 elsewhere */
	volatile unsigned *restarts; /* in a page shared with T, which waits until P3 has set it */
};

/* Called as root in T: makes the pod and P3, and executes the agent in T. Returns 0 with *script in P3. Returns -1 with
 * err in T if the pod cannot be made; then nothing is left behind. */
int start_checkpointed(spank_t sp, const struct spank_args *args, const struct spank_batch *batch,
		       struct spank_script *script, struct err *err);

/* Called in slurmstepd when the step has ended: removes directories of its pods that a killed agent has left.
 */
void cleanup_checkpointed(spank_t sp, const struct spank_args *args, const struct spank_batch *batch);

/* Runs fsched-slurm OP JOBID ARG as root. Returns its answer, which the caller frees; NULL with err: it failed or
 * answered with an error. */
struct slurm_question {
	const char *libexec, *node, *op, *arg;
	uint32_t job_id;
	int timeout_s;
};
json_t *ask_slurm(const struct slurm_question *q, struct err *err);

struct conf;
/* Called in sbatch: warns a user who is over a quota. */
void warn_of_quota(const struct conf *c);

/* Called in P3 as the job's user: reopens descriptors 0-2 through the pod's mount namespace. A descriptor that cannot
 * be reopened (a pipe, a deleted file) stays as it is: the job runs, and a checkpoint fails with a message that names
 * it. */
void reopen_stdio(void);

/* Called in P3: copies the job's output files to NAME.run-N beside them. run: N. list: the new names, separated by ",
 * "; "" = there was no output. -1: err says what could not be copied. */
int keep_output(unsigned run, char *list, size_t len, struct err *err);

enum gate_answer { GATE_RUN, GATE_EXIT };
/* Called in P3: tells the agent that slurmstepd has finished the setup of the task, and waits for the answer. GATE_RUN:
 * execute the script; GATE_EXIT: exit successfully. -1: the job must not start, err says why. */
int gate_wait(int gate, enum gate_answer *answer, struct err *err);

#endif
