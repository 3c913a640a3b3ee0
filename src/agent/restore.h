/* Attempts to restore the job, in the order of the plan, each in a pod of its own. */
#ifndef FSCHED_AGENT_RESTORE_H
#define FSCHED_AGENT_RESTORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "agent/job.h"
#include "agent/proc.h"
#include "agent/publish.h"
#include "agent/write_list_watch.h"
#include "policy/recovery.h"

struct restore {
	struct job *job;
	struct publish *publish;
	struct write_list_watch *write_list;
	const struct start_plan *plan;
	unsigned next;  /* index in the plan of the present candidate */
	unsigned epoch; /* its number */
	int64_t began;  /* now_us() */
	struct proc worker;
	struct loop_source ctl; /* the new pod's control socket, until `restored` has come */
	int ctl_fd;             /* the same, -1 = closed; fd and ctl.fd are -1 before the first use */
	struct loop_timer limit;
	pid_t init;    /* of the new pod, host pid, 0 = not known */
	bool restored; /* init has said so */
	bool worker_ok;
	bool waits;              /* the last attempt failed, perhaps because Slurm ends the job */
	struct loop_timer again; /* the next attempt of the same epoch */
	int64_t trouble;   /* now_us() when an attempt first failed for a reason that passes by itself, 0 = none has */
	unsigned tries;    /* since then */
	bool told;         /* why the last attempt failed is in the log and in the history */
	bool node_blamed;  /* the worker: this node lacks something */
	bool node_differs; /* from the one where the epoch was made */
	char history[400]; /* why the attempts before failed */
	char note[512];    /* after a success: what the job's status has to say of it, or "" */
	char dir[4200];
	char error[512]; /* of the last attempt */
	/* Set by the owner, called with arg. */
	bool (*slurm_ends)(void *arg); /* Slurm's SIGTERM has come, so restore_go_on() follows */
	bool (*may_move)(void *arg);   /* another node may be tried */
	/* No attempt is made now. step: FAILURE_ELSEWHERE, after which restore_decide() may be called, FAILURE_FRESH or
	 * FAILURE_HOLD; why: what failed. */
	void (*failed)(void *arg, enum failure_step step, const char *why);
	/* The job runs: its pod is init's, its control socket is ctl, which the owner gets. */
	void (*take_over)(void *arg, pid_t init, int ctl, const char *dir);
	void (*succeeded)(void *arg); /* the record has been brought up to date */
	void *arg;
};

/* Begins with the first candidate. */
void restore_begin(struct restore *r);
/* Decides once more what follows the failure of the last attempt. */
void restore_decide(struct restore *r);
/* Slurm does not end the job: continues after a failure if that was in doubt. */
void restore_go_on(struct restore *r);
/* Ends the attempt under way and leaves nothing of it behind. */
void restore_abort(struct restore *r);

#endif
