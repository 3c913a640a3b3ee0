/* The pod that is the job: its control socket, its pid 1 (fsched-init), its script. */
#ifndef FSCHED_AGENT_POD_WATCH_H
#define FSCHED_AGENT_POD_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "agent/loop.h"
#include "agent/signals.h"
#include "base/err.h"

struct pod_watch {
	struct loop *loop;
	struct signals *signals; /* are told of pid 1 and of what it reports */
	pid_t init;              /* host pid of pid 1, 0 = there is no pod */
	pid_t script;            /* host pid, 0 = not known */
	int script_fd;           /* its pidfd, so that no signal reaches another process; -1 = none */
	char dir[4200];
	struct loop_source ctl; /* fd -1 = closed */
	struct loop_child child;
	bool exited; /* exited_with() has been called */
	/* Set by the owner, called with arg. */
	void (*up)(void *arg);
	void (*exited_with)(void *arg, int wait_status); /* the script has ended */
	void (*lost_leader)(void *arg, int sig);  /* the job has killed fsched-leader by sig, and runs on without it */
	void (*fenced)(void *arg);                /* fsched-init ends the pod: the lease was not renewed in time */
	void (*died)(void *arg, int wait_status); /* fsched-init has ended, and exited_with() was not called */
	void *arg;
};

/* Watches the pod of init; ctl (-1 = none), the control socket, belongs to p from then on. */
void pod_watch_adopt(struct pod_watch *p, pid_t init, int ctl, const char *dir);
void pod_watch_set_script(struct pod_watch *p, pid_t script); /* host pid, 0 = none */
/* Finds the script in a restored pod. 0 or -1. */
int pod_watch_find_script(struct pod_watch *p, struct err *err);
/* Kills the pod and watches it no more. */
void pod_watch_release(struct pod_watch *p);
/* Tells fsched-init until when the lease holds: until as of now_us(), 0 = there is no lease. */
void pod_watch_tell_lease(struct pod_watch *p, int64_t until);
/* Takes what fsched-init has sent so far. */
void pod_watch_listen(struct pod_watch *p);
/* Sends sig to the script or to its process group, unless scope says that the script has it already. */
void pod_watch_deliver(struct pod_watch *p, int sig, enum sig_scope scope);
/* Sends sig to the script, or to all processes of the pod that belong to uid, as far as they handle it or wait for it:
 * for others it could be the end. Returns how many have got it. */
int pod_watch_notify(struct pod_watch *p, int sig, bool script_only, uid_t uid);
/* Host pids of stopped processes of the pod; the caller frees *pids. Returns their number. */
int pod_watch_stopped(const struct pod_watch *p, pid_t **pids);
/* Continues stopped processes other than the n in before: a worker or criu that was killed may leave tasks stopped, but
 * what the job had stopped itself stays so. */
void pod_watch_continue(struct pod_watch *p, const pid_t *before, int n);

#endif
