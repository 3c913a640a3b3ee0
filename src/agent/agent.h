/* The agent of one job: what all its parts share. Each part has its own file; what is to be done when is decided in
 * policy/recovery.c:
 *
 *   start.c       from exec to the decision: run the script, restore, or hold
 *   lease_watch.c who has the job; fence.c: it may run somewhere else
 *   restore.c     attempts to restore, newest candidate first
 *   move.c        when this node cannot; return.c: back into the queue
 *   checkpoint.c  one operation at a time by a worker process; vacate.c: the second half of a vacate
 *   able.c        whether a checkpoint could be made now
 *   sched.c       when the next periodic checkpoint is due; notice.c: preemption and time limit
 *   written_watch.c  the list of files that the job writes
 *   requests.c    TCP; conn.c runs in the child of each connection
 *   signals.c     Slurm's signals -> the script
 *   publish.c     the job's Checkpoint entry
 *   job.c         the job's directory and record
 *   tell.c        a line in the job's error file
 *   end.c         the script's end, and every other way in which the agent ends
 *   loop.c proc.c rpc.c   the ground
 */
#ifndef FSCHED_AGENT_AGENT_H
#define FSCHED_AGENT_AGENT_H

#include <stdarg.h>
#include <jansson.h>
#include "agent/loop.h"
#include "agent/proc.h"
#include "agent/rpc.h"
#include "agent/signals.h"
#include "agent/task.h"
#include "base/conf.h"
#include "base/mailbox.h"
#include "base/status.h"
#include "agent/load_sample.h"
#include "policy/schedule.h"
#include "policy/recovery.h"
#include "store/lease.h"
#include "store/store.h"

enum phase {
	PHASE_STARTING, /* until the decision */
	PHASE_RESTORING,
	PHASE_RUNNING, /* the script runs, new or restored */
	PHASE_HOLDING, /* cannot be restored, or was stopped: to be requeued */
	PHASE_LEAVING, /* vacated or held: only Slurm's SIGTERM is missing */
	PHASE_ENDING,  /* the script has ended */
};

#define CONNS_MAX 16
#define QUEUE_MAX 8

struct agent;

struct pod_state {     /* the pod that is the job */
	pid_t init;    /* 0 = none */
	pid_t script;  /* host pid, 0 = not known */
	int script_fd; /* pidfd, so that no signal meets another process; -1 = none */
	char dir[4200];
	struct loop_source ctl;
	struct loop_child child;
	bool exited;    /* `exit` has come */
	char lost[200]; /* why it can be checkpointed no more, "" = it can */
};

struct conn_slot {
	struct agent *a;
	pid_t pid;               /* 0 = free */
	struct loop_source sock; /* to the connection child */
	struct loop_child child;
	int64_t since;
	bool asked; /* its request has been read */
	bool able;  /* waits for the answer to `able` */
	uid_t uid;
};

enum op_kind {
	OP_PERIODIC,
	OP_CREATE,
	OP_VACATE,  /* the kinds from here on end with the job off the node */
	OP_LIMIT,   /* vacated before its time limit */
	OP_PREEMPT, /* saved and requeued, not held */
};

enum return_mode { RETURN_HOLD, RETURN_REQUEUE };

struct op { /* the operation under way */
	bool active;
	enum op_kind kind;
	struct conn_slot *conn; /* who waits for it, NULL = nobody */
	unsigned epoch;
	int64_t began;    /* Unix */
	int64_t began_us; /* now_us() */
	char phase[32];
	struct proc worker;
	json_t *result; /* owned */
	pid_t *stopped; /* processes that were stopped before, owned */
	int n_stopped;
	bool hurried;
	bool passes; /* it has failed for a reason that passes */
	/* vacate */
	bool held;    /* the epoch is durable, the tree frozen, the worker waits for the word */
	bool vacated; /* the job is requeued: no way back */
	struct rpc requeue;
	struct loop_timer retry;
	int64_t give_up;
	char why[512]; /* why the requeue failed */
};

struct queued {
	enum op_kind kind;
	struct conn_slot *conn;
};

struct agent {
	struct loop loop;
	struct task task;
	struct conf conf;
	bool conf_ok, store_ok;
	struct store store;
	struct job_record rec;
	char libexec[4096];
	struct mailbox mailbox; /* for workers among themselves */
	enum phase phase;

	struct pod_state pod;
	struct loop_source gate;
	bool up, ready; /* first pod is up; the script waits at the gate */
	struct signals signals;

	struct { /* start.c */
		struct start_plan plan;
		bool have_record;   /* there was one before this start */
		unsigned requested; /* see start_input */
		bool unusable;
		bool deciding;
		bool ran;          /* the script was let go, or restored */
		bool copies;       /* script and leader are saved */
		struct rpc ask;    /* which epoch a person wants */
		struct proc sweep; /* removes what dead agents left on this node */
		char error[512];   /* why the job runs unprotected so far, "" = it does not */
		bool saved;        /* Slurm's entry names an epoch, whether or not it is to be seen here */
		bool kept;         /* the output of the run before is beside, or need not be */
		bool append;       /* it could not be kept, and must not be truncated */
		char output[600];  /* where it is, or why not */
		struct loop_timer keep_limit;
	} start;

	struct {               /* restore.c */
		unsigned next; /* index of the next candidate */
		unsigned epoch;
		int64_t began;
		struct proc worker;
		struct loop_source ctl; /* the new pod's control socket, until `restored` has come */
		int ctl_fd;
		struct loop_timer limit;
		pid_t init;
		bool restored; /* init has said so */
		bool worker_ok;
		bool waits;              /* the last attempt failed, perhaps because Slurm ends the job */
		struct loop_timer again; /* the next attempt of the same epoch */
		int64_t trouble;         /* when something was first in the way that passes by itself, 0 = not yet */
		unsigned tries;          /* since then */
		bool told;               /* why the last attempt failed is in the log and in the history */
		bool node_blamed;        /* the worker: this node lacks something */
		bool node_differs;       /* from the one where the epoch was made */
		char history[400];       /* why the attempts before failed */
		char dir[4200];
		char error[512];  /* of the last attempt */
		sigset_t pending; /* signals for a script that is not there yet */
	} restore;

	struct { /* return.c */
		enum return_mode mode;
		struct rpc rpc;
		struct loop_timer retry;
		unsigned tries;
	} ret;

	struct { /* move.c */
		bool active, refused;
		unsigned tries;
		char why[400];
		struct rpc rpc;
		struct loop_timer retry;
		void (*cannot)(struct agent *);
	} move;

	struct { /* lease_watch.c */
		struct proc proc;
		struct lease self;
		bool held, waiting;
		bool released;     /* the child has been told to */
		bool taken;        /* a later start of the job has claimed it */
		bool elsewhere;    /* on another node */
		bool grace;        /* fence.c: the agent had been stopped */
		int64_t until;     /* the job must be dead by then, 0 = there is no lease */
		int64_t continued; /* when SIGCONT came last */
		struct loop_timer deadline;
		struct loop_timer again; /* starts a child in the place of one that has died */
		char error[512];
	} lease;

	struct { /* notice.c */
		struct rpc rpc;
		struct loop_timer timer;
		int64_t grace; /* s, of the partition */
		bool served;
	} notice;

	struct {                   /* written_watch.c */
		struct written *w; /* NULL: there is no list */
		struct loop_source source;
		struct loop_timer pause;
		bool said_full;
	} written;

	struct op op;
	struct queued queue[QUEUE_MAX];
	unsigned n_queue;
	char last_failure[700]; /* of a periodic checkpoint, "" after a success: the same one is told once */
	json_t *warned;         /* owned, or NULL: warnings of epochs that the log has */
	struct proc prune;
	bool shared_changed; /* what the record says of it is newer than the file */

	struct { /* tell.c */
		struct proc proc;
		unsigned failed; /* periodic checkpoints since the last that did not */
		bool said;
		char text[1000];
	} tell;

	struct { /* sched.c */
		struct schedule s;
		struct loop_timer timer;
		struct load_sampler *sampler;
	} sched;

	struct { /* able.c */
		struct proc worker;
		bool done;        /* the worker has told its result */
		char reason[800]; /* "" = nothing stands in the way */
	} able;

	struct { /* publish.c */
		struct status status;
		bool dirty;
		unsigned tries;
		struct rpc rpc;
		struct loop_timer retry;
	} pub;

	struct { /* requests.c */
		struct loop_source listen;
		struct loop_timer resume;
		unsigned burst, refused;
		int64_t refused_logged;
		int64_t burst_began;
		unsigned port;
		uid_t slurm_user;
		char error[256]; /* why nobody can ask, "" = they can; shown as long as it lasts */
		struct rpc where;
		struct proc resolve;
		struct conn_slot conns[CONNS_MAX];
	} req;

	struct {                 /* end.c */
		bool term;       /* SIGTERM has come */
		bool unresolved; /* a vacate's requeue may have gone through after all */
		bool comes_back; /* the job is in the queue again */
		bool continues;  /* and is to go on where it was */
		bool itself;     /* the script ended, and not because of Slurm */
		struct rpc get;  /* what SIGTERM means */
		int status;      /* wait status to hand to slurmstepd */
		struct loop_timer limit;
	} end;
};

/* start.c */
int start_begin(struct agent *a, int task_fd, struct err *err);
void start_check(struct agent *a);
void start_fresh(struct agent *a);
/* The job's lease is ours, or cannot be had because the job's directory cannot be used here. */
void start_with_lease(struct agent *a);
void start_without_lease(struct agent *a, const char *why);
/* The script runs, new or restored: everything that serves it begins. */
void start_service(struct agent *a);
/* Lets the script's process that waits at the gate go: "run", "exit", ... */
void gate_answer(struct agent *a, const char *answer);

/* restore.c */
void restore_begin(struct agent *a);
/* Slurm does not end the job: the next candidate. */
void restore_go_on(struct agent *a);
void restore_abort(struct agent *a);

/* return.c */
void return_begin(struct agent *a, enum return_mode mode, const char *why);
/* Asks Slurm now, not at the next attempt, how the job stands. */
void return_look(struct agent *a);
void return_stop(struct agent *a);

/* move.c: to another node; cannot is called if there is none */
bool move_possible(const struct agent *a);
void move_begin(struct agent *a, const char *why, void (*cannot)(struct agent *));
void move_stop(struct agent *a);

/* lease_watch.c */
/* Before anything of a job that starts again is touched; start_with_lease() or start_without_lease() follows. */
void lease_acquire(struct agent *a);
/* Of a job that runs already. */
void lease_start(struct agent *a);
/* Once more us from now on, without news. */
void lease_extend(struct agent *a, int64_t us);
/* The job has no process here any more: others may have it at once. */
void lease_end(struct agent *a);
bool lease_idle(const struct agent *a);

/* fence.c */
void fence(struct agent *a, const char *why);

/* notice.c */
void notice_start(struct agent *a);
void notice_stop(struct agent *a);

/* job.c: each returns 0 or -1 and may be called again after a failure */
int job_open_conf(struct agent *a, struct err *err);
/* The directory alone; job_open_store() reads the record too and cleans up. */
int job_open_dir(struct agent *a, struct err *err);
int job_open_store(struct agent *a, struct err *err);
int job_save(struct agent *a, struct err *err);
void job_set_intent(struct agent *a, enum intent intent);
void job_set_ended(struct agent *a, enum intent intent, int status); /* status of the script, -1 = none */
void job_log(struct agent *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int job_save_copies(struct agent *a, struct err *err);
void job_add_epoch(struct agent *a, const struct epoch_summary *e);
void job_prune(struct agent *a);
void job_describe_epochs(const struct agent *a, struct status *s);

/* pod_watch.c */
void pod_adopt(struct agent *a, pid_t init, int ctl, const char *dir);
void pod_set_script(struct agent *a, pid_t script);    /* host pid, 0 = none */
int pod_find_script(struct agent *a, struct err *err); /* in a restored pod */
void pod_release(struct agent *a);
/* Tells fsched-init until when the lease holds. */
void pod_tell_lease(struct agent *a);
void pod_listen(struct agent *a); /* takes what fsched-init has said by now */
void pod_deliver(struct agent *a, int sig, enum sig_scope scope);
/* Host pids of stopped processes of the pod; the caller frees. */
int pod_stopped(struct agent *a, pid_t **pids);
void pod_unstop(struct agent *a, const pid_t *before, int n);

/* checkpoint.c */
void op_start(struct agent *a, enum op_kind kind, struct conn_slot *c);
void op_request(struct agent *a, enum op_kind kind, struct conn_slot *c);
/* A request waits with which the job leaves its node: a pre-dump under way takes no longer than it has to. */
void op_hurry(struct agent *a);
void op_conn_gone(struct agent *a, struct conn_slot *c);
void op_cancel(struct agent *a, const char *why);
static inline bool op_leaves(enum op_kind kind)
{
	return kind >= OP_VACATE;
}
void op_finish(struct agent *a);
void op_record_epoch(struct agent *a, const json_t *result);
const char *op_name(enum op_kind kind);
/* What every request to a worker holds. */
json_t *worker_request(const struct agent *a);
/* The same for an operation on the pod that runs. */
json_t *worker_request_pod(const struct agent *a, unsigned epoch);
/* What stands in the way before a worker is started. */
int op_prepare(struct agent *a, struct err *err);

/* tell.c: into the job's error file */
void tell_user(struct agent *a, const char *text);
void tell_unprotected(struct agent *a, const char *why); /* a periodic checkpoint has failed */

/* able.c */
void able_request(struct agent *a, struct conn_slot *c);
void able_stop(struct agent *a); /* nobody is kept waiting */

/* written_watch.c */
/* Before anything of the job can run in the pod. fresh: the job starts from the beginning. */
void written_start(struct agent *a, pid_t init, bool fresh);
void written_before(struct agent *a); /* a worker starts */
void written_frozen(struct agent *a); /* the worker has frozen the job and waits for us */
/* When the pod is dead, and before the lease is given back: the last look. */
void written_stop(struct agent *a);

/* vacate.c */
void vacate_held(struct agent *a);
void vacate_stop(struct agent *a);
void vacate_worker_end(struct agent *a, bool ok);

/* sched.c */
void sched_start(struct agent *a);
void sched_op_begins(struct agent *a);
void sched_op_ended(struct agent *a);
void sched_stop(struct agent *a);

/* requests.c */
void requests_start(struct agent *a);
void requests_stop(struct agent *a);
bool requests_idle(const struct agent *a);
void conn_phase(struct conn_slot *c, const char *name);
void conn_result(struct conn_slot *c, json_t *result); /* takes the reference, closes */
/* The answer to `able`; reason: why not, or NULL. */
void conn_able(struct conn_slot *c, const char *reason);
void conn_refuse(struct conn_slot *c, const char *op, const char *error, const char *state);

/* publish.c */
void publish_state(struct agent *a, const char *state);
void publish_error(struct agent *a, const char *error);
void publish_now(struct agent *a);
bool publish_idle(const struct agent *a);

/* end.c */
/* The job as an answer of fsched-slurm get tells it. */
struct end_input end_input_of(const struct agent *a, bool ok, const json_t *job);
void end_signal(struct agent *a, int sig);
void end_script(struct agent *a, int wait_status);
void end_pod_died(struct agent *a, int wait_status);
/* The job does not run again: it ends as its script ended in the run before. */
void end_as_before(struct agent *a);
/* Slurm has ended the job before it ran. */
void end_given_up(struct agent *a);
void end_unstarted(struct agent *a, const char *why);
void end_leave(struct agent *a);
/* After each event: ends the agent if nothing is left to do. */
void end_check(void *agent);
/* After the loop. */
void end_finish(struct agent *a);
_Noreturn void end_process(int wait_status);

#endif
