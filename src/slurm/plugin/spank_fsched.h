/* The two halves of the SPANK plugin in a batch step: T (root, becomes the agent) and the script's process P3. */
#ifndef FSCHED_SLURM_PLUGIN_SPANK_FSCHED_H
#define FSCHED_SLURM_PLUGIN_SPANK_FSCHED_H

#include <sys/types.h>
#include <jansson.h>
#include <slurm/spank.h>
#include "base/err.h"
#include "slurm/option.h"

struct spank_args { /* of the line in plugstack.conf */
	char libexec[4096];
	char conf[4096]; /* "" = search (base/conf.h) */
};

struct spank_batch {            /* a batch step whose job has the option */
	char value[OPTION_MAX]; /* of the option, as found in the job's environment: nobody has validated it yet */
	char user[64];
	pid_t stepd;
};

struct spank_script {                /* what P3 holds */
	int gate;                    /* owned; -1 elsewhere */
	volatile unsigned *restarts; /* shared with T, which waits for it before it becomes the agent */
};

/* Called as root in T. Returns only in P3, 0 and *script, or in T when the pod could not be made: -1, nothing left
 * behind. T itself goes on as the agent. */
int start_checkpointed(spank_t sp, const struct spank_args *args, const struct spank_batch *batch,
		       struct spank_script *script, struct err *err);

/* Called in slurmstepd when the step is over: removes directories of its pods that the agent, killed perhaps, has left.
 */
void cleanup_checkpointed(spank_t sp, const struct spank_args *args, const struct spank_batch *batch);

/* One conversation with slurmctld by fsched-slurm (op, arg), as root. Returns the answer, the caller's; or NULL, also
 * if it is an error. */
struct slurm_question {
	const char *libexec, *node, *op, *arg;
	uint32_t job_id;
	int timeout_s;
};
json_t *ask_slurm(const struct slurm_question *q, struct err *err);

/* Called in P3 as the job's user: puts files of this mount namespace in place of the descriptors 0-2. What cannot be
 * reopened (a pipe, a deleted file) stays: the job runs, a checkpoint will name it. */
void reopen_stdio(void);

/* Called in P3: copies what the job's output files hold of run N to NAME.run-N beside them. list: the new names, "" if
 * there was nothing. -1: err says what could not be kept. */
int keep_output(unsigned run, char *list, size_t len, struct err *err);

enum gate_answer { GATE_RUN, GATE_EXIT };
/* Called in P3: tells the agent that slurmstepd is done with it and waits for the answer. -1: the job must not start,
 * err says why. */
int gate_wait(int gate, enum gate_answer *answer, struct err *err);

#endif
