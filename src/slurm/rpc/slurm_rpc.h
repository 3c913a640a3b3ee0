/* The RPCs to slurmctld that fsched needs: the record of a job, its comments, requeue and release.
 *
 * Every function blocks while slurmctld does not answer (Slurm's MessageTimeout, with retries). A caller that must not
 * block runs fsched-slurm instead. Functions that return int return 0, or -1 with err: its text names the job and
 * contains Slurm's message, and err.num is Slurm's error number or an errno value. rpc_init() must be called once
 * before the other functions.
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
#define RPC_EPOCH_LATEST UINT32_MAX       /* the newest epoch when the job starts */
#define RPC_EPOCH_NONE   (UINT32_MAX - 1) /* none: the job starts over, because it has requeued itself */

struct slurm_job {
	uint32_t id;
	uint32_t array_id;  /* 0 = not of an array */
	int64_t array_task; /* RPC_NO_TASK = not a task, or the record of all tasks of an array that have not started
			       yet */
	uint32_t het_id;    /* 0 = not of a heterogeneous job */
	char label[48];     /* the name for people: "12", "12_3", "12_[4-9]" (waiting tasks) */
	char name[128];     /* --job-name; any text */
	uid_t uid;
	gid_t gid;
	char state[32]; /* base state, e.g. "RUNNING" */
	bool pending, running, suspended;
	bool finished;   /* in a state that it can leave only by a requeue */
	bool completing; /* processes of its last run may still exist */
	bool held;       /* pending with priority 0 */
	bool batch;
	bool requeue; /* may be requeued */
	uint32_t priority;
	char reason[256];     /* why it is pending or has ended, "" = none */
	char batch_host[256]; /* "" while it does not run */
	unsigned restart_count;
	int wait_status;                            /* of the batch script, when the job has ended */
	int64_t start_time, end_time, preempt_time; /* Unix, 0 = none */
	char *admin_comment;                        /* owned, never NULL after a load */
	char *comment;                              /* owned, never NULL after a load */
	char partition[256];                        /* one, or several names with commas while it is pending */
	char *exc_nodes, *req_nodes; /* owned, never NULL after a load: the user's --exclude and --nodelist */
	char *work_dir;              /* owned, never NULL after a load */
};

/* errno after a failed call of libslurm; EIO if the call has not set errno. */
int rpc_errno(void);

/* Reads slurm.conf ($SLURM_CONF or Slurm's default). libslurm ends the process if that fails. */
void rpc_init(void);

/* Loads the record of one job id. err.num ESLURM_INVALID_JOB_ID: slurmctld does not know the job, or has forgotten it.
 * *job is to be freed with rpc_job_free().
 */
int rpc_job_load(uint32_t job_id, struct slurm_job *job, struct err *err);
/* Loads the records of all jobs that slurmctld shows to the caller, ascending by id; to be freed with rpc_jobs_free().
 */
int rpc_jobs_load(struct slurm_job **jobs, size_t *n, struct err *err);
void rpc_jobs_free(struct slurm_job *jobs, size_t n);
/* That of one job; NULL: slurmctld does not know it. */
const struct slurm_job *rpc_jobs_find(const struct slurm_job *jobs, size_t n, uint32_t job_id);
/* Its base state in small letters. Returns buf. */
char *rpc_job_state_text(const struct slurm_job *job, char *buf, size_t len);
/* Loads the record of a task of an array. A task that has no record of its own yet gets the record of the array: state
 * PENDING, array_task set to the task. */
int rpc_job_load_task(uint32_t array_id, uint32_t task, struct slurm_job *job, struct err *err);
void rpc_job_free(struct slurm_job *job);

/* The job ids of all tasks of an array that have records of their own, or the id itself of a plain job. The caller
 * frees *ids. Returns their number, or -1 with err. */
int rpc_job_ids(uint32_t job_id, uint32_t **ids, struct err *err);

/* The address under which slurmctld reaches a node (NodeAddr). */
int rpc_node_addr(const char *node, char *buf, size_t len, struct err *err);

/* Of slurmctld's configuration. */
struct rpc_settings {
	uid_t slurm_user;
	unsigned kill_wait; /* s from SIGTERM to SIGKILL when Slurm ends a job */
};
int rpc_settings(struct rpc_settings *s, struct err *err);

/* Replaces the Checkpoint entry in the AdminComment and keeps all other text in it. For root and SlurmUser only. */
int rpc_publish(uint32_t job_id, const struct status *status, struct err *err);

/* Sets the epoch from which the next start is to restore, as the job's owner asks: the segment "fsched-restart=N" (or
 * "=latest", "=none") of the job's Comment. All other text is kept. epoch 0 removes the segment. */
int rpc_request_epoch(uint32_t job_id, unsigned epoch, struct err *err);
/* Reads and removes the segment. *epoch = 0: there was none. */
int rpc_take_epoch(uint32_t job_id, unsigned *epoch, struct err *err);

/* Requeues a job, held or not. Refuses a job that was cancelled or has ended. err.num EAGAIN: the job is completing. If
 * the job was submitted with --no-requeue, requeuing is allowed first. */
int rpc_requeue(uint32_t job_id, bool hold, struct err *err);

/* Releases a held job: sets priority and begin time in one update. err.num EAGAIN: the job is completing, so slurmctld
 * would overwrite the begin time. */
int rpc_release(uint32_t job_id, struct err *err);

/* Requeues a job so that it starts again within seconds and not only after cred_expire of Slurm. */
int rpc_requeue_soon(uint32_t job_id, struct err *err);

/* Moves a running job to another node: requeues it, excludes m->node, lets it start soon, and sets its Checkpoint entry
 * accordingly. *final: there is no other node, so another call would fail, too. */
struct rpc_move {
	const char *node, *error;
	unsigned epoch; /* as in rpc_request_epoch(): the requested epoch of the start that failed on this node */
};
int rpc_move(uint32_t job_id, const struct rpc_move *m, bool *final, struct err *err);

/* How many nodes other than this one the job may use and Slurm can start it on, busy or not, as far as partition,
 * --exclude and --nodelist say. -1 with err. */
int rpc_other_nodes(const struct slurm_job *job, const char *node, struct err *err);

/* *grace: seconds between Slurm's decision to preempt the job and its end; 0 = a preemption is not announced. */
int rpc_outlook(const struct slurm_job *job, int64_t *grace, struct err *err);

/* slurm_update_job() with an error that names the job. doing: the begin of the message, "cannot …". description: a
 * job_desc_msg_t, whose job id is set here. */
struct job_descriptor;
int rpc_update(uint32_t job_id, struct job_descriptor *description, const char *doing, struct err *err);

/* The text of a Comment with its restart segment set to epoch, or removed if epoch is 0. The caller frees. */
char *rpc_comment_with_epoch(const char *comment, unsigned epoch);
/* The epoch in the restart segment of a Comment; 0 = there is none, or it is malformed. */
unsigned rpc_comment_epoch(const char *comment);

#endif
