/* --bcast: the tasks run a copy of the program. */
#ifndef FSCHED_LAUNCH_BCAST_H
#define FSCHED_LAUNCH_BCAST_H

#include "launch/job.h"

/* Copies the program and returns the path of the copy, which the caller frees. Ends the program with Slurm's words if
 * that fails. to: the value of --bcast, "" = none was given. */
char *bcast_copy(const char *program, const char *to, const struct job *job, int step);

#endif
