/* Slurm has requeued the job while it runs (scontrol requeue, a preemption without grace time) and kills it after
 * KillWait. The job is to continue from its newest epoch, so its state is saved in that time, if there is enough.
 *
 * Under proctrack/cgroup Slurm's SIGTERM comes to the agent alone (signals.h). The script gets it when it is known that
 * the job is not to be saved, so it sees no signal at all if the job was saved. Under proctrack/linuxproc all processes
 * have got the signal before the agent can do anything, and the newest epoch is the one that was made before. */
#ifndef FSCHED_AGENT_GRACE_H
#define FSCHED_AGENT_GRACE_H

#include "agent/agent.h"

/* The agent has got SIGTERM. Slurm is being asked what it means. */
void grace_begin(struct agent *a);
/* The signal is to be delivered to the running script. True: it is withheld, for a few seconds at most unless the job
 * is being saved. */
bool grace_withholds(struct agent *a, int sig, enum sig_scope scope);
/* What it means, from what Slurm has said of the job. kill_wait: s from its SIGTERM to its SIGKILL; 0 = not known. */
void grace_learn(struct agent *a, enum end_meaning meaning, const struct end_input *in, int64_t kill_wait);
/* Call it after each event: if the job could not be saved the script gets its signal. */
void grace_check(struct agent *a);

#endif
