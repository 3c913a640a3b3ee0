/* One operation at a time: a checkpoint, made by a worker process. The agent starts it, reads its events, bounds its
 * time and records its result; further requests wait. Whatever happens to the worker, the job runs on, unless Slurm has
 * taken it back into the queue (vacate.h). */
#ifndef FSCHED_AGENT_CHECKPOINT_H
#define FSCHED_AGENT_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "agent/hook.h"
#include "agent/job.h"
#include "agent/make_room.h"
#include "agent/pod_watch.h"
#include "agent/proc.h"
#include "agent/prove_epochs.h"
#include "agent/publish.h"
#include "agent/requests.h"
#include "agent/sched.h"
#include "agent/tell_user.h"
#include "agent/write_list_watch.h"
#include "base/mailbox.h"

#define CHECKPOINT_QUEUE_MAX 8

enum op_kind {
	OP_PERIODIC,
	OP_CREATE,
	OP_VACATE,  /* the kinds from here on end with the job off the node */
	OP_LIMIT,   /* vacated before its time limit */
	OP_PREEMPT, /* the kinds from here on: saved and requeued, not held */
	OP_REQUEUE, /* before its time limit */
	OP_EVICT,   /* Slurm has requeued it already, and is about to kill it */
};

struct op { /* the operation under way, or the last one */
	bool active;
	enum op_kind kind;
	struct request *request; /* who waits for it, NULL = nobody */
	unsigned epoch;          /* 0 = the worker was not started */
	int64_t began;           /* Unix */
	int64_t began_us;        /* now_us() */
	char phase[32];          /* of the worker */
	struct proc worker;
	json_t *result; /* owned */
	pid_t *stopped; /* processes that were stopped before, owned */
	int n_stopped;
	bool hurried;
	bool passes;             /* it has failed for a reason that passes by itself */
	unsigned tries;          /* attempts that have failed so */
	bool made_room;          /* old epochs were removed because of a quota */
	struct loop_timer retry; /* of the next attempt */
	bool held;    /* a vacate's epoch is durable, the tree is frozen, the worker waits for the agent's word */
	bool vacated; /* the job is requeued: no way back */
};

struct checkpoint {
	struct job *job;
	struct pod_watch *pod;
	struct write_list_watch *write_list;
	struct sched *sched;
	struct publish *publish;
	struct tell_user *tell_user;
	struct hook *hook;
	struct requests *requests;
	struct make_room make_room; /* job: set by the owner */
	struct prove_epochs *prove;
	struct mailbox mailbox; /* in which a worker leaves descriptors for the next one */
	char lost[200];         /* why the job can be checkpointed no more, "" = it can */
	struct op op;
	struct checkpoint_queued {
		enum op_kind kind;
		struct request *request; /* NULL = nobody waits for it any more */
	} queue[CHECKPOINT_QUEUE_MAX];
	unsigned n_queue;
	char last_failure[700]; /* of a periodic checkpoint, "" after a success: a repeated one is logged once */
	json_t *warned;         /* owned, or NULL: warnings of epochs that the log has */
	/* Set by the owner, called with arg. */
	bool (*job_runs)(void *arg);
	void (*held)(void *arg);                       /* op.held is to be set, and the worker to get a word */
	void (*held_worker_ended)(void *arg, bool ok); /* checkpoint_finish() is to be called */
	void (*held_cancelled)(void *arg);             /* an operation that may be held is given up */
	void *arg;
};

/* The word for it in logs, records and requests. */
const char *op_name(enum op_kind kind);
static inline bool op_leaves(enum op_kind kind)
{
	return kind >= OP_VACATE;
}
static inline bool op_requeues(enum op_kind kind)
{
	return kind >= OP_PREEMPT;
}

/* Starts an operation; none may be under way. r: who waits for it, or NULL. */
void checkpoint_start(struct checkpoint *c, enum op_kind kind, struct request *r);
/* Starts it, or queues it, or refuses r. */
void checkpoint_request(struct checkpoint *c, enum op_kind kind, struct request *r);
/* A request waits with which the job leaves its node: a pre-dump under way, and a wait for others, are cut short. */
void checkpoint_hurry(struct checkpoint *c);
/* r's client has gone; it was told that its request is carried out all the same. */
void checkpoint_request_gone(struct checkpoint *c, struct request *r);
/* Whether an operation of this kind is under way or waits. */
bool checkpoint_has(const struct checkpoint *c, enum op_kind kind);
/* The job is ending because of why: no operation delays that. */
void checkpoint_cancel(struct checkpoint *c, const char *why);
/* Does what must be done before any worker is started. 0, or -1 with err: no checkpoint can be made. */
int checkpoint_prepare(struct checkpoint *c, struct err *err);

/* For a held vacate: records the epoch of result; ends the operation and starts the next one that waits. */
void checkpoint_record_epoch(struct checkpoint *c, const json_t *result);
void checkpoint_finish(struct checkpoint *c);

#endif
