/* The second half of a vacate: the epoch is durable, the tree is frozen, and the job must get from the node into
 * Slurm's queue without being lost on the way. Until Slurm has it, the worker can still be told to resume the job; from
 * then on it cannot.
 *
 *   held -> intent vacating -> requeue-hold -> done:   kill the pod before Slurm's SIGTERM can reach anything that runs
 *                                           -> failed: has it happened after all? -> yes: as done
 *                                                                                 -> no:  resume, the job continues
 *
 * A job that Slurm has requeued already (OP_EVICT) is gone as soon as it is held.
 */
#ifndef FSCHED_AGENT_VACATE_H
#define FSCHED_AGENT_VACATE_H

#include <stdbool.h>
#include <stdint.h>
#include "agent/checkpoint.h"
#include "agent/rpc.h"

struct vacate {
	struct job *job;
	struct checkpoint *checkpoint;
	struct rpc requeue;
	struct loop_timer retry;
	int64_t give_up;
	char why[512]; /* why the requeue failed */
	/* The requeue seemed to have failed, but slurmctld may still do it. It kills the job then, which must not be
	 * taken for somebody's wish to start over. */
	bool unresolved;
	/* Set by the owner, called with arg. */
	void (*gone)(void *arg);                      /* Slurm has the job; the pod is about to be killed */
	void (*left)(void *arg, enum op_kind kind);   /* the pod is dead and the worker has ended */
	void (*stayed)(void *arg, const char *error); /* the job runs on, with an error for its status */
	void (*resumed)(void *arg);                   /* the worker has been told to resume the job */
	void *arg;
};

/* The owner calls these from the events of the same name of struct checkpoint. */
void vacate_held(struct vacate *v);
void vacate_worker_ended(struct vacate *v, bool ok);
void vacate_stop(struct vacate *v);

#endif
