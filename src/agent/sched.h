/* Periodic checkpoints: policy/schedule.h decides when one is due, policy/load.h whether the node is too busy for it,
 * and policy/auto_interval.h how often they are made with --checkpoint=auto. */
#ifndef FSCHED_AGENT_SCHED_H
#define FSCHED_AGENT_SCHED_H

#include <stdbool.h>
#include "agent/job.h"
#include "agent/load_sample.h"
#include "agent/loop.h"
#include "policy/schedule.h"

struct sched {
	struct job *job;
	struct schedule schedule;
	struct loop_timer timer; /* set: the next one is due then, or the load is being measured */
	struct load_sampler *sampler;
	/* Set by the owner, called with arg. */
	bool (*may)(void *arg);     /* the job runs, can be checkpointed, and no operation is under way */
	void (*due)(void *arg);     /* a periodic checkpoint is to be made now */
	void (*changed)(void *arg); /* the record's count of skipped ones, or the job's interval at present */
	void *arg;
};

/* From now on. */
void sched_start(struct sched *s);
void sched_stop(struct sched *s);
/* An operation of any kind begins. */
void sched_op_begins(struct sched *s);
/* It has ended. try_soon: it was a periodic checkpoint, and failed for a reason that passes by itself. */
void sched_op_ended(struct sched *s, bool try_soon);

#endif
