/* Slurm is about to end the job: a preemption with a grace time, or its time limit (with --checkpoint-at-limit). The
 * job's state is saved while there is time, and the job gives its node back itself (policy/recovery.h:
 * notice_decide()).
 *
 * Slurm tells a batch job of neither, so the agent asks: for a preemption only where the partition has a GraceTime,
 * four times within it; for the time limit a few times, each of which halves the time that is left, since an
 * administrator may change the limit. */
#ifndef FSCHED_AGENT_NOTICE_H
#define FSCHED_AGENT_NOTICE_H

#include <stdbool.h>
#include <stdint.h>
#include "agent/job.h"
#include "agent/rpc.h"
#include "policy/recovery.h"

struct notice {
	struct job *job;
	struct rpc rpc;
	struct loop_timer timer;
	int64_t grace;             /* s, GraceTime of the partition as of the last answer */
	enum notice_action action; /* the last one that act() was called with */
	bool served;               /* act() has been called for the present preemption or time limit */
	/* Set by the owner, called with arg. */
	int64_t (*checkpoint_us)(void *arg); /* how long the last checkpoint took, 0 = there was none */
	unsigned (*hook_seconds)(void *arg); /* how long the hooks before it may take */
	bool (*busy)(void *arg);             /* an operation is under way; it is made to end as soon as it can */
	void (*act)(void *arg, enum notice_action action); /* not NOTICE_NONE */
	void *arg;
};

/* Why the job leaves its node, for logs and its entry. Static. */
const char *notice_text(enum notice_action action);
void notice_start(struct notice *n);
void notice_stop(struct notice *n);

#endif
