/* Whether the option that a node found in a job's environment is the one that the job_submit plugin wrote.
 *
 * A job's environment is no proof: sbatch --get-user-env adds what the user's login profile sets, on the node, when the
 * filter has long been passed. What the filter wrote into the job's AdminComment only root can change. */
#ifndef FSCHED_SLURM_RPC_OPTION_CHECK_H
#define FSCHED_SLURM_RPC_OPTION_CHECK_H

#include "slurm/rpc/slurm_rpc.h"

/* uuid: of the task, if the job is one of an array. dir: JobCheckpointDir. 0, or -1: why says what is wrong. */
int option_check(const struct slurm_job *job, const char *uuid, int64_t interval, const char *dir, struct err *why);

#endif
