/* A job that requeues itself (`scontrol requeue $SLURM_JOB_ID` in its script) wants to start over; slurmctld does not
 * tell who has requeued a job. So the shim notes it in the job's Comment before it runs Slurm's scontrol. */
#ifndef FSCHED_CLI_SHIM_REQUEUE_H
#define FSCHED_CLI_SHIM_REQUEUE_H

#include <stdbool.h>

/* Whether this process runs in a job with checkpoints, and the arguments of requeue or requeuehold name that job. */
bool shim_requeues_itself(int argc, char **argv);
/* Notes it, runs scontrol(arg) in a child, and removes the note if that fails. Returns the exit status. */
int shim_requeue_itself(int (*scontrol)(char **argv), char **argv);

#endif
