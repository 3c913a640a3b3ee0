/* Checks whether the option that a node finds in a job's environment is the one that the job_submit plugin wrote.
 *
 * The environment of a job is no proof: with sbatch --get-user-env the node adds what the user's login profile sets,
 * after the plugin has checked the job. Only root can change what the plugin wrote into the job's AdminComment. */
#ifndef FSCHED_SLURM_RPC_OPTION_CHECK_H
#define FSCHED_SLURM_RPC_OPTION_CHECK_H

#include "slurm/rpc/slurm_rpc.h"

/* uuid: that of the task if the job is a task of an array. dir: JobCheckpointDir. 0; -1: why says what is wrong. */
int option_check(const struct slurm_job *job, const char *uuid, int64_t interval, const char *dir, struct err *why);

#endif
