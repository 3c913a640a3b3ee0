/* The hooks of a job: a signal and a command before each checkpoint, a command after a restore (--checkpoint-signal,
 * -before, -after). Nothing depends on what they do: a failure is logged, and the checkpoint is made.
 *
 * A command runs in the pod with the user's rights, but is no part of the job (pod/pod_command.h), and it has ended
 * when the checkpoint begins. */
#ifndef FSCHED_AGENT_HOOK_H
#define FSCHED_AGENT_HOOK_H

#include <stdbool.h>
#include "agent/job.h"
#include "agent/pod_watch.h"

struct hook {
	struct job *job;
	struct pod_watch *pod;
	struct proc proc;        /* the command */
	struct loop_timer pause; /* after the signal */
	bool before;             /* which command it is */
	unsigned epoch;
	bool ended; /* the command has said how */
	void (*done)(void *arg);
	void *arg;
};

/* Whether something is to be done before a checkpoint, and for how many s that can take. */
bool hook_has_before(const struct hook *h);
unsigned hook_seconds_before(const struct hook *h);
/* Does it; epoch: the number that the checkpoint will have. done(arg) is called once, and not before this returns. */
void hook_before(struct hook *h, unsigned epoch, void (*done)(void *arg), void *arg);
/* Runs the command after a restore of epoch. Nobody waits for it. */
void hook_after(struct hook *h, unsigned epoch);
/* Ends what is under way before a checkpoint; done() is called soon. Does nothing if there is nothing. */
void hook_hurry(struct hook *h);
/* Ends what is under way, without a call of done(). */
void hook_stop(struct hook *h);

#endif
