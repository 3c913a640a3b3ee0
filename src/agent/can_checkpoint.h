/* What would prevent a checkpoint now? A worker checks it as it does before each checkpoint, and changes nothing. One
 * check runs at a time; its result answers everybody who waits by then. */
#ifndef FSCHED_AGENT_CAN_CHECKPOINT_H
#define FSCHED_AGENT_CAN_CHECKPOINT_H

#include <stdbool.h>
#include "agent/proc.h"

struct can_checkpoint {
	struct loop *loop;
	struct proc worker;
	bool done;        /* the worker has told its result */
	char reason[800]; /* "" = nothing prevents it */
	/* Set by the owner. Called when the check has ended; reason: NULL = nothing prevents a checkpoint. */
	void (*answer)(void *arg, const char *reason);
	void *arg;
};

/* Starts the worker (fsched-worker below libexec) with its request; answer() follows. Not while it runs. 0 or -1. */
int can_checkpoint_start(struct can_checkpoint *c, const char *libexec, const char *request, struct err *err);
static inline bool can_checkpoint_running(const struct can_checkpoint *c)
{
	return proc_running(&c->worker);
}
/* Ends the check without an answer. */
void can_checkpoint_stop(struct can_checkpoint *c);

#endif
