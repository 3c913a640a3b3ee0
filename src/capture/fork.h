/* A snapshot of a process's memory by fork: a child that never runs holds the memory as it was, and the process goes
 * on.
 *
 * The process, stopped by criu, is made to clone a task beside it (trace/helper_task.h), and that the child. Then the
 * task ends and is reaped in the name of the process. The child's parent is the pod's leader then, its exit signal
 * reaches nobody in the job, it holds no descriptor, is stopped, and traced by the caller's thread with
 * PTRACE_O_EXITKILL. If it ever ran, it would exit: its registers say so. Seen from the job: two pids are used up.
 * Whoever is killed at whatever moment of it, nothing of this stays, and the process goes on.
 *
 * Not in the child: MAP_SHARED (it would not be a snapshot), MADV_DONTFORK; empty there: MADV_WIPEONFORK.
 * mem_fork_holds() finds out. */
#ifndef FSCHED_CAPTURE_FORK_H
#define FSCHED_CAPTURE_FORK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/err.h"
#include "image/image.h"

struct mem_fork {
	pid_t host; /* the child; 0 = none */
	int pidfd;
};

/* hand: of trace/tracer.h, also TRACER_SELF. inner, host: pids of the process in the pod and here. On failure nothing
 * is left in the job. Only one thread may use hand, and the child dies with the calling thread. */
int mem_fork_make(int hand, pid_t inner, pid_t host, struct mem_fork *f, struct err *err);
/* True if the child has the pages of all these ranges. */
bool mem_fork_holds(const struct mem_fork *f, const struct mem_range *ranges, size_t n);
/* Kills the child. Harmless if there is none. By the thread that made it. */
void mem_fork_end(struct mem_fork *f);

#endif
