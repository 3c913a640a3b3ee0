/* The job goes back into Slurm's queue: held, because it must be restored and cannot be, or to be continued as soon as
 * Slurm starts it, because it was stopped here. It never starts over silently, and it is never lost: the agent stays
 * until Slurm has taken the job, or is known to have it in another place, because Slurm takes the end of the agent for
 * the completion of the job. */
#ifndef FSCHED_AGENT_REQUEUE_H
#define FSCHED_AGENT_REQUEUE_H

#include <stdbool.h>
#include "agent/job.h"
#include "agent/rpc.h"

enum requeue_mode { REQUEUE_HELD, REQUEUE_SOON };

struct requeue {
	struct job *job;
	enum requeue_mode mode;
	struct rpc rpc;
	struct loop_timer retry;
	unsigned tries; /* failed ones */
	/* Set by the owner, called with arg. */
	void (*before)(void *arg); /* Slurm is about to be asked to requeue the job */
	void (*done)(void *arg);   /* Slurm has the job: in its queue or in another place */
	void (*over)(void *arg);   /* Slurm has ended the job, so that it does not come back */
	void *arg;
};

/* Asks Slurm how the job stands, requeues it, and tries again until done() or over() has been called. */
void requeue_begin(struct requeue *r, enum requeue_mode mode);
/* Asks Slurm now, not at the next attempt, how the job stands. */
void requeue_ask_now(struct requeue *r);
void requeue_stop(struct requeue *r);

#endif
