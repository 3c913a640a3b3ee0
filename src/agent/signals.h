/* Signals of Slurm, and how the job's script gets to see each of them exactly once.
 *
 * Slurm signals a batch step in three ways (slurmstepd, req.c):
 *   the task pid only       (scancel --batch, --signal=B:…, and everything under proctrack/cgroup)  -> the script must
 * get it the task's group        (scancel --full)                                       -> the script's process group
 * must get it all processes           (proctrack/linuxproc: cancel, requeue, time limit)     -> the script has got it
 * already The agent is the task pid and sees all three alike. Two witnesses tell them apart: the canary, a child in a
 * process group of its own, is hit only by the third; fsched-init, in the task's group but not its only member, by the
 * second and third.
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
		int64_t due;  /* when the agent's own signals of this number are judged, 0 = there are none */
		int64_t last; /* when a witness saw one */
		unsigned own, canary, init;
	} seen[NSIG];
	void (*deliver)(void *arg, int sig, enum sig_scope scope);
	void *arg;
};

/* Starts the canary. */
int signals_start(struct signals *s, struct loop *l, void (*deliver)(void *, int, enum sig_scope), void *arg,
		  struct err *err);
void signals_stop(struct signals *s);
/* The agent itself got sig; init reported sig. */
void signals_own(struct signals *s, int sig);
void signals_init(struct signals *s, int sig);

#endif
