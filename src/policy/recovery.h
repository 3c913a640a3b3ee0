/* Every decision about a job that starts, fails to be restored, is ended, or may
 * run somewhere else at the same time. One place, six tables, in recovery.c;
 * nothing here asks Slurm, a file or a clock, so that each can be tested whole.
 *
 *   start     a job waits at the gate        run the script | restore | hold | another node | end as it had ended
 *   failure   an epoch could not be restored again later | next epoch | another node | from the beginning | hold
 *   meaning   Slurm ends the job             who wanted it, and so what the next start is to do
 *   record    the script ends, or Slurm ends it   what the job's record says from now on
 *   lease     another agent had the job      take it | wait | stand down
 *   notice    Slurm is about to end the job  save it and give it back | vacate it
 *
 * A vacated job, and one that a person asked to restore from a certain epoch,
 * is restored from exactly that epoch or held: it never starts over silently
 * and never silently from something else. A job whose node died takes the
 * newest epoch that can be restored; what happens if none can is the
 * administrator's choice (CheckpointOnRestoreFailure). A job whose script has
 * ended runs again only if somebody asks for it.
 */
#ifndef FSCHED_POLICY_RECOVERY_H
#define FSCHED_POLICY_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>
#include "store/store.h"

/* ---- start ---- */

#define START_LATEST 0xffffffffu /* whichever epoch is the newest */

enum start_action { START_FRESH, START_RESTORE, START_HOLD, START_ELSEWHERE, START_END };

/* How the script ended, by the wait status in the record. */
enum ended {
	ENDED_UNKNOWN, /* it has not, or Slurm ended it */
	ENDED_ITSELF,
	ENDED_KILLED, /* by SIGTERM or SIGKILL, which Slurm did not send */
};
enum ended ended_how(int status); /* -1 = ENDED_UNKNOWN */

struct start_input {
	bool have_record;       /* job.json is there and its uuid is this job's */
	enum intent intent;     /* of the record */
	unsigned restart_count; /* Slurm's, of this start */
	const unsigned *epochs; /* complete epochs of the record's run, ascending */
	unsigned n_epochs;
	unsigned requested; /* epoch that a person asked for, START_LATEST, 0 = none */
	bool saved;         /* Slurm's entry: the job was running and had an epoch */
	bool told;          /* Slurm's entry: the job had ended, so a requeue is a request to run it again */
	enum ended ended;   /* of the record */
	bool unusable; /* the job's directory cannot be read here, so neither the record nor the lease could be had */
	bool hold_on_failure; /* CheckpointOnRestoreFailure = hold */
};

struct start_plan {
	enum start_action action;
	/* START_FRESH: the record's run number must grow by one (there was a run before). */
	bool new_run;
	/* START_RESTORE: what to try, in this order. */
	unsigned epochs[STORE_KEPT_MAX];
	unsigned n_epochs;
	/* START_RESTORE, START_ELSEWHERE: what to do when that has failed: START_HOLD, or START_FRESH (then with a new
	 * run). */
	enum start_action otherwise;
	char reason[200]; /* a sentence for the log; of START_HOLD and START_ELSEWHERE for the user too */
};

void start_decide(const struct start_input *in, struct start_plan *plan);

/* ---- failure ---- */

enum failure_cause {
	FAILED_EPOCH,  /* damaged, or its files cannot be put back: no node can restore it */
	FAILED_PASSES, /* what is in the way goes away by itself: a port in use, memory short */
	FAILED_JOB,    /* somebody has to put something in order: a file of the job was changed */
	FAILED_NODE,   /* this node is not like the one where it was saved, or lacks something: another node may do */
};
enum failure_step { FAILURE_AGAIN, FAILURE_NEXT_EPOCH, FAILURE_ELSEWHERE, FAILURE_FRESH, FAILURE_HOLD };

struct failure_input {
	enum failure_cause cause;
	bool time_left;              /* of CheckpointRestoreRetry */
	bool more_epochs;            /* the plan names older ones */
	bool may_move;               /* another node can be had, and not too many have been tried for this restore */
	enum start_action otherwise; /* of the plan */
};

enum failure_step failure_decide(const struct failure_input *in);
/* Seconds before attempt number `tries` + 1. */
unsigned failure_pause(unsigned tries);

/* ---- meaning ---- */

enum end_meaning {
	END_UNKNOWN,    /* Slurm could not be asked: what the record says stands */
	END_NONE,       /* Slurm did not end it: the signal was somebody's signal */
	END_OVER,       /* cancelled, out of time, failed: it does not come back */
	END_START_OVER, /* a person requeued it */
	END_CONTINUE,   /* requeued by Slurm (preemption, the node is taken for dead): it is to go on where it was */
	END_ELSEWHERE,  /* it runs in another place already */
};

struct end_input { /* the job as slurmctld shows it */
	bool known;
	bool pending, completing, running, finished;
	bool preempted; /* preempt_time is set */
	bool newer;     /* its restart count is above that of this agent */
};

enum end_meaning end_decide(const struct end_input *in);

/* ---- record ---- */

enum record_change {
	RECORD_KEEP,
	RECORD_ENDED,    /* INTENT_DONE and the script's status */
	RECORD_OVER,     /* INTENT_DONE: Slurm ended the job, and knows it */
	RECORD_REQUEUED, /* INTENT_REQUEUED */
};

struct record_input {
	bool ended;  /* the script has */
	bool itself; /* neither killed as Slurm kills nor while Slurm was ending the job */
	enum end_meaning meaning;
};

enum record_change record_decide(const struct record_input *in);

/* ---- lease ---- */

enum lease_verdict { LEASE_TAKE, LEASE_WAIT, LEASE_STAND_DOWN };

struct lease_input {
	bool exists;
	bool released;             /* its holder gave it back */
	bool newer;                /* it belongs to a later start of the job than this one */
	bool same_host, same_boot; /* the holder ran on this node, since its last boot */
	bool alive;                /* same_host and same_boot: the holder still lives */
	bool expired;              /* not renewed for its duration and the margin */
};

/* For an agent that wants to have the job. */
enum lease_verdict lease_decide(const struct lease_input *in);

/* Seconds for which a lease that was last renewed must be left alone by others: its duration, within which its holder
 * has killed the job, and a margin for clocks that differ (file systems that stamp with the client's clock) and for a
 * slow kill. */
static inline unsigned lease_margin(unsigned duration)
{
	return duration / 4 > 2 ? duration / 4 : 2;
}

/* ---- notice ---- */

enum notice_action { NOTICE_NONE, NOTICE_SAVE_AND_REQUEUE, NOTICE_VACATE };

struct notice_input {
	bool preempted; /* preempt_time is set */
	bool at_limit;  /* --checkpoint-at-limit */
	int64_t left;   /* s until the time limit */
	int64_t lead;   /* s that a checkpoint is expected to need */
	bool served;    /* it has been done, or tried, for this notice */
};

enum notice_action notice_decide(const struct notice_input *in);
/* The lead in s for a job whose last checkpoint took total_us (0 = none yet). */
int64_t notice_lead(int64_t total_us);

#endif
