#ifndef FSCHED_AGENT_FENCE_H
#define FSCHED_AGENT_FENCE_H

#include "agent/agent.h"

/* The job may run somewhere else from now on, because of why. Whatever runs here ends at once, nothing more is written
 * into its directory, and Slurm is asked what has become of the job. If Slurm still has it on this node (only the
 * checkpoint directory was out of reach), it goes back into the queue, to be continued from its last epoch. */
void fence(struct agent *a, const char *why);

#endif
