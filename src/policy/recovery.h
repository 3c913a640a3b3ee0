/* Every decision about a job that starts, cannot be restored, ends, or may run in another place at the same time. There
 * are seven tables, all in recovery.c. They are pure: no function asks Slurm, a file or a clock, so that tests can
 * cover each table completely.
 *
 *   start    a job waits to be started: run the script | restore | hold | go to another node | end as the script ended
 *   failure  an epoch could not be restored: again later | next epoch | another node | from the beginning | hold
 *   meaning  Slurm ends the job: who wanted that, and so what the next start is to do
 *   grace    Slurm has requeued the job and kills it soon: save it in that time | let it have its SIGTERM
 *   record   the script ends, or Slurm ends it: what the job's record is to say
 *   lease    another agent had the job: take it | wait | stand down
 *   notice   Slurm is about to end the job: save and requeue it | vacate it
 *
 * A vacated job, and a job for which a person asked for a certain epoch, is restored from exactly that epoch or held:
 * it never starts over, and never continues from another epoch, without being asked. A job whose node failed takes the
 * newest epoch that can be restored; the administrator chooses what happens if there is none
 * (CheckpointOnRestoreFailure). A job whose script has ended runs again only if somebody asks for it.
 */
#ifndef FSCHED_POLICY_RECOVERY_H
#define FSCHED_POLICY_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>
#include "store/store.h"

/* ---- start ---- */

#define START_LATEST    0xffffffffu /* the newest epoch */
#define START_BEGINNING 0xfffffffeu /* none: the job has requeued itself, which means to start over */

enum start_action { START_FRESH, START_RESTORE, START_HOLD, START_ELSEWHERE, START_END };

/* How the script ended, by the wait status in the record. */
enum ended {
	ENDED_UNKNOWN, /* it has not ended, or Slurm ended it */
	ENDED_ITSELF,
	ENDED_KILLED, /* by a SIGTERM or SIGKILL that Slurm did not send */
};
enum ended ended_how(int status); /* status: of wait(), -1 = unknown */

struct start_input {
	bool have_record;       /* job.json exists and its uuid is this job's */
	enum intent intent;     /* of the record */
	unsigned restart_count; /* Slurm's, of this start */
	const unsigned *epochs; /* complete epochs of the record's run, ascending */
	unsigned n_epochs;
	unsigned requested; /* epoch that a person asked for, START_LATEST, START_BEGINNING, 0 = none */
	bool saved;         /* Slurm's Checkpoint entry: the job was running and had an epoch */
	bool told;          /* Slurm's Checkpoint entry: the job had ended, so a requeue is a request to run it again */
	enum ended ended;   /* of the record */
	bool unusable;      /* the job's directory cannot be read on this node, so there is neither record nor lease */
	bool hold_on_failure; /* CheckpointOnRestoreFailure = hold */
};

struct start_plan {
	enum start_action action;
	/* START_RESTORE: the epochs to try, in this order. */
	unsigned epochs[STORE_KEPT_MAX];
	unsigned n_epochs;
	/* START_RESTORE, START_ELSEWHERE: what to do after a failure: START_HOLD, or START_FRESH with a new run. */
	enum start_action otherwise;
	char reason[200]; /* a sentence for the log; with START_HOLD and START_ELSEWHERE for the user too */
};

void start_decide(const struct start_input *in, struct start_plan *plan);

/* ---- failure ---- */

enum failure_cause {
	FAILED_EPOCH,  /* the epoch is damaged, or its files cannot be put back: no node can restore it */
	FAILED_PASSES, /* the obstacle goes away by itself: a port in use, too little memory */
	FAILED_JOB,    /* a person has to act: a file of the job was changed */
	FAILED_GIVEN,  /* a person has to give the job more of a node: neither another epoch nor another node helps */
	FAILED_NODE, /* this node differs from the node of the checkpoint, or lacks something: another node may work */
};
enum failure_step { FAILURE_AGAIN, FAILURE_NEXT_EPOCH, FAILURE_ELSEWHERE, FAILURE_FRESH, FAILURE_HOLD };

struct failure_input {
	enum failure_cause cause;
	bool time_left;              /* CheckpointRestoreRetry is not over */
	bool more_epochs;            /* the plan has older epochs */
	bool may_move;               /* another node is available, and not too many were tried for this restore */
	enum start_action otherwise; /* start_plan.otherwise */
};

enum failure_step failure_decide(const struct failure_input *in);
/* Seconds to wait before attempt number `tries` + 1. */
unsigned failure_pause(unsigned tries);

/* ---- meaning ---- */

enum end_meaning {
	END_UNKNOWN,    /* Slurm could not be asked: the record stays valid */
	END_NONE,       /* Slurm did not end the job: somebody else sent the signal */
	END_OVER,       /* cancelled, out of time, failed: the job does not run again */
	END_START_OVER, /* it requeued itself, or was requeued by a person and CheckpointOnRequeue is restart */
	END_CONTINUE,   /* requeued otherwise (preemption, or Slurm considers the node failed): it is to be restored */
	END_ELSEWHERE,  /* the job runs in another place already */
};

struct end_input { /* the job as slurmctld shows it */
	bool known;
	bool pending, completing, running, finished;
	bool preempted; /* preempt_time is set */
	bool by_itself; /* it was requeued by a process of its own */
	bool resumes;   /* CheckpointOnRequeue, --checkpoint-on-requeue: a requeue by others continues it */
	bool newer;     /* its restart count is higher than that of this agent */
	bool beyond; /* it was requeued more than once since this agent's start, or Slurm failed to launch it again */
};

enum end_meaning end_decide(const struct end_input *in);

/* ---- grace ---- */

enum grace_action { GRACE_PASS_ON, GRACE_SAVE };

struct grace_input {
	enum end_meaning meaning;
	bool completing; /* Slurm waits for the end of the job's processes on this node */
	bool possible;   /* the job can be checkpointed, and its processes have not got the signal yet */
	int64_t left;    /* s until Slurm kills them (KillWait) */
	int64_t need;    /* s that a checkpoint is expected to take: grace_need() */
};

/* Slurm's SIGTERM has come. */
enum grace_action grace_decide(const struct grace_input *in);
/* For a job whose last checkpoint took total_us (0 = there was none). */
int64_t grace_need(int64_t total_us);

/* ---- record ---- */

enum record_change {
	RECORD_KEEP,
	RECORD_ENDED,    /* set INTENT_DONE and the script's status */
	RECORD_OVER,     /* set INTENT_DONE; Slurm ended the job and knows it */
	RECORD_REQUEUED, /* set INTENT_REQUEUED */
};

struct record_input {
	bool ended;  /* the script has ended */
	bool itself; /* it was not killed by a signal that Slurm uses, and Slurm was not ending the job */
	enum end_meaning meaning;
};

enum record_change record_decide(const struct record_input *in);

/* ---- lease ---- */

enum lease_verdict { LEASE_TAKE, LEASE_WAIT, LEASE_STAND_DOWN };

struct lease_input {
	bool exists;
	bool released;             /* its holder has released it */
	bool newer;                /* it belongs to a later start of the job than this agent's */
	bool same_host, same_boot; /* the holder ran on this node, since its last boot */
	bool alive;                /* with same_host and same_boot: the holder is still alive */
	bool expired;              /* not renewed for its duration and the margin */
};

/* For an agent that wants to run the job. */
enum lease_verdict lease_decide(const struct lease_input *in);

/* Seconds, beyond its duration, for which other agents must not take a lease that is no longer renewed. The holder
 * kills the job within the duration; the margin is for clocks that differ (on file systems that stamp with the client's
 * clock) and for a slow kill. */
static inline unsigned lease_margin(unsigned duration)
{
	return duration / 4 > 2 ? duration / 4 : 2;
}

/* ---- notice ---- */

/* What becomes of a job at its time limit (--checkpoint-at-limit). */
enum at_limit {
	AT_LIMIT_NONE,     /* Slurm ends it */
	AT_LIMIT_HOLD,     /* it is saved and held */
	AT_LIMIT_CONTINUE, /* it is saved, goes back into the queue and continues; held when its total is used up */
};

enum notice_action {
	NOTICE_NONE,
	NOTICE_SAVE_AND_REQUEUE, /* for a preemption */
	NOTICE_VACATE,
	NOTICE_CONTINUE,
	NOTICE_VACATE_USED_UP,     /* the total running time of AT_LIMIT_CONTINUE is used up */
	NOTICE_VACATE_NO_PROGRESS, /* to continue would lead here again: the time limit leaves no time to compute */
};

struct notice_input {
	bool preempted; /* preempt_time is set */
	enum at_limit at_limit;
	int64_t left;       /* s until the time limit */
	int64_t left_total; /* s of running time until the total is used up; INT64_MAX = no bound */
	int64_t ran;        /* s that the job has run since it was started or restored here */
	int64_t lead;       /* s that a checkpoint is expected to take: notice_lead() */
	bool served;        /* the action for this notice was done or tried */
};

enum notice_action notice_decide(const struct notice_input *in);
/* The lead in s for a job whose last checkpoint took total_us (0 = there was none). */
int64_t notice_lead(int64_t total_us);

#endif
