/* The agent's event loop: descriptors, timers and child processes, on one epoll and one timerfd.
 *
 * Nothing polls: between events the agent sleeps without a wakeup, whatever the number of timers. A callback may add
 * and remove anything, also its own source, timer or child. Times are CLOCK_MONOTONIC microseconds, as now_us() gives
 * them.
 */
#ifndef FSCHED_AGENT_LOOP_H
#define FSCHED_AGENT_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct loop_source { /* a descriptor to be read; the caller closes it */
	int fd;      /* -1 = not in the loop */
	void (*fn)(void *arg);
	void *arg;
};

struct loop_timer {
	int64_t at; /* 0 = not set */
	void (*fn)(void *arg);
	void *arg;
	struct loop_timer *next;
};

struct loop_child {
	pid_t pid; /* 0 = not watched */
	void (*fn)(void *arg, int wait_status);
	void *arg;
	struct loop_child *next;
};

struct loop {
	int epfd, timerfd, sigfd;
	bool quit;
	int64_t armed; /* what the timerfd is set to, 0 = off */
	struct loop_timer *timers;
	struct loop_child *children;
	/* Set by the owner after loop_init(); each may be NULL. */
	void *owner;
	void (*on_signal)(void *owner, int sig); /* every signal but SIGCHLD of a child's end */
	void (*after)(void *owner);              /* after each callback of the loop, on_signal() included */
};

/* Blocks all signals of the process: from here on they come through the loop. */
int loop_init(struct loop *l, struct err *err);
/* Runs until l->quit. */
void loop_run(struct loop *l);

/* Calls fn whenever fd can be read. 0 or -1. */
int loop_add(struct loop *l, struct loop_source *s, int fd, void (*fn)(void *), void *arg);
void loop_remove(struct loop *l, struct loop_source *s); /* does not close */

/* Calls fn once at `at`; t->at is 0 by then. Replaces an earlier setting of t. */
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at, void (*fn)(void *), void *arg);
void loop_timer_clear(struct loop *l, struct loop_timer *t);

/* fn is called once, when pid has been reaped; the entry is out of the loop by then. */
void loop_watch(struct loop *l, struct loop_child *c, pid_t pid, void (*fn)(void *, int), void *arg);
void loop_unwatch(struct loop *l, struct loop_child *c);

#endif
