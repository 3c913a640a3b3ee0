/* Signals of Slurm, and how the job's script gets each of them exactly once.
 *
 * Slurm signals a batch step in three ways (slurmstepd, req.c):
 *
 *   the task's pid only  scancel --batch, --signal=B:..., and everything under proctrack/cgroup:
 *                        the script must get it from the agent
 *   the task's group     scancel --full:
 *                        the script's process group must get it from the agent
 *   all processes        proctrack/linuxproc, for cancel, requeue and time limit:
 *                        the script has got it already
 *
 * The agent is the task's pid and cannot tell the three apart. Two witnesses can: the canary, a child in a process
 * group of its own, gets only signals of the third kind; fsched-init, which is in the task's group but is not its only
 * member, gets those of the second and the third.
 */
#ifndef FSCHED_AGENT_SIGNALS_H
#define FSCHED_AGENT_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include "agent/loop.h"

enum sig_scope { SIG_SCOPE_SCRIPT, SIG_SCOPE_GROUP, SIG_SCOPE_ALL };

struct signals {
	struct loop *loop;
	pid_t canary;
	pid_t init_pid;            /* fsched-init, set by the owner; 0 = none */
	struct loop_source source; /* signal numbers from the canary */
	struct loop_timer timer;
	struct sig_seen {
		int64_t due;  /* now_us() when the agent's own signals of this number are delivered, 0 = there are none
			       */
		int64_t last; /* when a witness last got one */
		unsigned own, canary, init;
	} seen[NSIG];
	void (*deliver)(void *arg, int sig, enum sig_scope scope);
	void *arg;
};

/* Starts the canary. deliver() is called for each signal of the agent, with its scope. 0 or -1. */
int signals_start(struct signals *s, struct loop *l, void (*deliver)(void *, int, enum sig_scope), void *arg,
		  struct err *err);
void signals_stop(struct signals *s);
/* The agent itself has got sig; fsched-init has reported sig. Numbers that are no signal are ignored. */
void signals_own(struct signals *s, int sig);
void signals_init(struct signals *s, int sig);

#endif
