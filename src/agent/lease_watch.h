/* The job's lease (store/lease.h). A child takes and renews it, since the file system may hang; the agent watches the
 * child.
 *
 * If a lease was not renewed for its duration, or if a later start of the job claims it, then the job may run somewhere
 * else at any moment, and lost() is called: the job's pod must be killed. fsched-init has the same deadline and ends
 * the pod by itself, so an agent that hangs in a file system cannot keep such a job alive.
 *
 * A job that starts for the first time does not wait for its lease. One that starts again touches nothing before it has
 * it. */
#ifndef FSCHED_AGENT_LEASE_WATCH_H
#define FSCHED_AGENT_LEASE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include "agent/job.h"
#include "agent/proc.h"
#include "store/lease.h"

struct lease_watch {
	struct job *job;
	struct proc proc;
	struct lease self;
	bool held;
	bool waiting;       /* lease_watch_acquire() was called, and neither acquired() nor failed() */
	bool released;      /* the child has been told to release it */
	bool taken;         /* a later start of the job has claimed it */
	bool elsewhere;     /* on another node */
	bool grace;         /* see lease_watch_grant_grace() */
	int64_t renewed_at; /* now_us() when the last renewal began, 0 = none yet */
	int64_t until;      /* now_us() by which the job must be dead, 0 = there is no lease */
	struct loop_timer deadline;
	struct loop_timer again; /* starts a child in the place of one that has died */
	char error[512];
	/* Set by the owner, called with arg. */
	void (*acquired)(void *arg);
	void (*failed)(void *arg, const char *why); /* the job's directory cannot be used here */
	void (*lost)(void *arg, const char *why);
	void (*deadline_moved)(void *arg); /* until has changed */
	bool (*wanted)(void *arg);         /* the job runs, so a child that has died is to be replaced */
	void *arg;
};

/* Call it before anything of a job that starts again is touched; acquired() or failed() follows. The job's directory
 * must be open. */
void lease_watch_acquire(struct lease_watch *w);
/* Takes the lease of a job that runs already. Does nothing if there is a child. */
void lease_watch_start(struct lease_watch *w);
/* Call it in lost(). Slurm stops the agent together with its job. When both continue, the deadline may have passed, but
 * nobody else has the job for that reason: the child renews the lease, or learns better, within moments. Returns true
 * if that is so, once until the next renewal: the deadline is then a few seconds from now. */
bool lease_watch_grant_grace(struct lease_watch *w);
/* The job has no process here any more: releases the lease, so that others may have it at once. */
void lease_watch_end(struct lease_watch *w);
/* True if there is no child. */
bool lease_watch_idle(const struct lease_watch *w);

#endif
