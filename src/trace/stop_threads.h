/* Stops all threads of a running process with ptrace for a short time. The thread of the caller that stops them is the
 * tracer; if it ends, they run again. */
#ifndef FSCHED_TRACE_STOP_THREADS_H
#define FSCHED_TRACE_STOP_THREADS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct stopped_threads {
	pid_t *tids;    /* owned; 0 = the thread has ended */
	size_t n, room; /* elements: used, allocated */
};

/* Stops the threads of process host and adds them to s. until: now_us() by which all must be stopped. A thread in an
 * uninterruptible sleep does not stop in time (ETIMEDOUT).
 *
 * A system call that a thread is in is interrupted and restarted when the thread runs again. A few system calls, like
 * epoll_wait(), end with EINTR, as after any stop.
 *
 * Returns 0 or -1 with err. After a failure all threads of this process run again; those of processes that were added
 * before stay stopped. */
int stop_threads_add(struct stopped_threads *s, pid_t host, int64_t until, struct err *err);
/* Resumes and detaches all threads, and frees s. */
void stop_threads_end(struct stopped_threads *s);

#endif
