/* All threads of a running process, stopped by ptrace for a moment. By one thread of the caller's; if that ends, they
 * run on. */
#ifndef FSCHED_TRACE_STOP_THREADS_H
#define FSCHED_TRACE_STOP_THREADS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct stopped_threads {
	pid_t *tids; /* owned */
	size_t n, room;
};

/* Adds the threads of host to s. until: now_us() by which all must stand; a thread in an uninterruptible wait does not.
 * A system call that one of them is in has ended or has been taken back, and is made again (a few, like epoll_wait(),
 * end with EINTR, as after any stop). -1: what was stopped of this process runs again. */
int stop_threads_add(struct stopped_threads *s, pid_t host, int64_t until, struct err *err);
/* Lets all go. */
void stop_threads_end(struct stopped_threads *s);

#endif
