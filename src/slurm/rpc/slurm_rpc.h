/* The few conversations with slurmctld that fsched needs: one job's record, its comments, requeue and release.
 *
 * Every function blocks while slurmctld does not answer (Slurm's MessageTimeout, with retries); a caller that must not
 * wait runs fsched-slurm instead. Errors name the job and carry Slurm's own text; err.num is Slurm's error number, or
 * an errno value. Call rpc_init() once before anything else.
 */
#ifndef FSCHED_SLURM_RPC_SLURM_RPC_H
#define FSCHED_SLURM_RPC_SLURM_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "base/status.h"

#define RPC_NO_TASK      (-1)
#define RPC_EPOCH_LATEST UINT32_MAX /* whichever is the newest when the job starts */

struct slurm_job {
	uint32_t id;
	uint32_t array_id;  /* 0 = not of an array */
	int64_t array_task; /* RPC_NO_TASK = not a task, or the not yet started rest of an array */
	uint32_t het_id;    /* 0 = not of a heterogeneous job */
	char label[48];     /* "12", "12_3", "12_[4-9]" (tasks that wait): as a person names it */
	uid_t uid;
	gid_t gid;
	char state[32]; /* base state, e.g. "RUNNING" */
	bool pending, running, suspended;
	bool finished;   /* in a state that it leaves only by requeue */
	bool completing; /* processes of its last run may still live */
	bool held;       /* pending with priority 0 */
	bool batch;
	bool requeue; /* may be requeued */
	uint32_t priority;
	char reason[256];     /* why it is pending or ended, "" = none */
	char batch_host[256]; /* "" while it does not run */
	unsigned restart_count;
	int64_t start_time, end_time, preempt_time; /* Unix, 0 = none */
	char *admin_comment;                        /* owned, never NULL after a load */
	char *comment;                              /* owned, never NULL after a load */
	char partition[256];                        /* one, or several names with commas while it is pending */
	char *exc_nodes, *req_nodes; /* owned, never NULL after a load: the user's --exclude and --nodelist */
};

/* errno after a call of libslurm that has failed; EIO if it has not set any. */
int rpc_errno(void);

/* Reads slurm.conf ($SLURM_CONF or Slurm's default); libslurm ends the process if it cannot. */
void rpc_init(void);

/* Loads the record of one job id. err.num is ESLURM_INVALID_JOB_ID for a job that slurmctld does not (any longer) know.
 */
int rpc_job_load(uint32_t job_id, struct slurm_job *job, struct err *err);
/* The task of an array: loads the record that has it. A task that has not been split off the array yet has the array's
 * own record and state PENDING, with array_task set to the one asked for. */
int rpc_job_load_task(uint32_t array_id, uint32_t task, struct slurm_job *job, struct err *err);
void rpc_job_free(struct slurm_job *job);

/* Job ids of every task of an array that has a record of its own, or the id itself for a plain job; *ids is the
 * caller's. Returns how many, or -1. */
int rpc_job_ids(uint32_t job_id, uint32_t **ids, struct err *err);

/* The address under which slurmctld reaches a node (NodeAddr). */
int rpc_node_addr(const char *node, char *buf, size_t len, struct err *err);

/* The uid of SlurmUser. */
int rpc_slurm_user(uid_t *uid, struct err *err);

/* Replaces the Checkpoint entry of AdminComment, keeping all other text in it. Needs root or SlurmUser. */
int rpc_publish(uint32_t job_id, const struct status *status, struct err *err);

/* The epoch from which the next start is to restore, asked for by the job's owner: the segment "fsched-restart=N" (or
 * "=latest") of the job's Comment, of which all other text is kept. epoch 0 removes it. */
int rpc_request_epoch(uint32_t job_id, unsigned epoch, struct err *err);
/* Reads and removes it. *epoch = 0 if there was none. */
int rpc_take_epoch(uint32_t job_id, unsigned *epoch, struct err *err);

/* Back into the queue, held or not; not a job that was cancelled or has ended; EAGAIN while it is completing. A job
 * whose submitter forbade requeuing is allowed it first. */
int rpc_requeue(uint32_t job_id, bool hold, struct err *err);

/* Lets a held job start now: priority and begin time in one update. Refused with err.num EAGAIN while the job is
 * completing, since slurmctld would overwrite the begin time. */
int rpc_release(uint32_t job_id, struct err *err);

/* Back into the queue, to start again within seconds and not only after Slurm's cred_expire. */
int rpc_requeue_soon(uint32_t job_id, struct err *err);

/* Gives a running job to another node: requeues it, excludes m->node, lets it start soon, and shows all that in its
 * entry. *final: there is no other node, asking again makes no sense. */
struct rpc_move {
	const char *node, *error;
	unsigned epoch; /* as in rpc_request_epoch(); the request of the start that could not be done here */
};
int rpc_move(uint32_t job_id, const struct rpc_move *m, bool *final, struct err *err);

/* Seconds between Slurm's decision to preempt the job and its end; 0 = it is not announced. */
int rpc_outlook(const struct slurm_job *job, int64_t *grace, struct err *err);

/* slurm_update_job() with an error that names the job. doing: "cannot …". The description is a job_desc_msg_t. */
struct job_descriptor;
int rpc_update(uint32_t job_id, struct job_descriptor *description, const char *doing, struct err *err);

/* Text of a Comment without its restart segment, or with another one; epoch 0 = without. Caller frees. */
char *rpc_comment_with_epoch(const char *comment, unsigned epoch);
/* The epoch in a Comment, 0 = none or malformed. */
unsigned rpc_comment_epoch(const char *comment);

#endif
