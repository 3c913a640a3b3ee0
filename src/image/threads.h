/* Threads that share one piece of work; the first failure of any of them ends it. */
#ifndef FSCHED_IMAGE_THREADS_H
#define FSCHED_IMAGE_THREADS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct mem_team {
	pthread_mutex_t lock; /* protects why */
	atomic_bool failed;
	struct err why;              /* the first failure; valid if failed */
	const atomic_bool *cancel;   /* borrowed, or NULL */
	atomic_uint_fast64_t cpu_us; /* processor time of all threads so far */
};

/* cancel: ends the work with ECANCELED when it becomes true; may be NULL. Nothing has to be freed. */
void mem_team_init(struct mem_team *t, const atomic_bool *cancel);
/* Records why as the failure of the team unless there is one already. Returns -1. Thread-safe. */
int mem_team_fail(struct mem_team *t, const struct err *why);
/* False if the work has failed or is cancelled: the thread should return soon. A cancellation is recorded as a failure.
 * Thread-safe. */
bool mem_team_goes_on(struct mem_team *t);
/* Calls work(arg, 0) .. work(arg, n - 1), n <= 64, each in a thread of its own, and waits for all of them. The threads
 * block all signals. Their nice value is raised by nice (Linux: it belongs to the thread); if nice is 0, the caller's
 * thread makes the first call. If a thread cannot be created, the caller's thread makes its call. A call that returns
 * -1 with err makes the team fail. Returns 0, or -1 with the first failure. */
int mem_team_run(struct mem_team *t, int n, int nice, int (*work)(void *arg, int i, struct err *err), void *arg,
		 struct err *err);
/* The number of threads to use, 1..64: wanted, or if that is < 1 the number of processors that the caller may use, at
 * most 16. */
int mem_threads(int wanted);

#endif
