/* A snapshot of a process's memory by fork: a child that never runs holds the memory as it is now, and the process
 * continues.
 *
 * The process is stopped by criu. It is made to clone a helper task (trace/helper_task.h), which shares its memory, and
 * the helper task forks the child. Then the helper task exits and is reaped on behalf of the process. So the child's
 * parent is the pod's leader. The child has no exit signal for a process of the job, no descriptors, is stopped, and is
 * traced by the caller's thread with PTRACE_O_EXITKILL. If it ever ran, it would exit: its registers point to the
 * system call exit_group(). The job can only see that two pids have been used. Whoever is killed at whatever step: the
 * helper task and the child end, and the process continues.
 *
 * The child lacks MAP_SHARED memory (it would not be a snapshot) and MADV_DONTFORK memory; MADV_WIPEONFORK memory is
 * empty in it. mem_fork_holds() detects this. */
#ifndef FSCHED_CAPTURE_FORK_H
#define FSCHED_CAPTURE_FORK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/err.h"
#include "image/image.h"

struct mem_fork {
	pid_t host; /* pid of the child in our namespace; 0 = none */
	int pidfd;
};

/* tracer: see trace/tracer.h; TRACER_SELF is possible. inner, host: pids of the process in the pod and in our
 * namespace. -1 with err; the job is unchanged then. Only one thread may use the tracer. The child dies with the
 * calling thread. */
int mem_fork_make(int tracer, pid_t inner, pid_t host, struct mem_fork *f, struct err *err);
/* True if the child has the pages of all these ranges. Each range must lie within one mapping. */
bool mem_fork_holds(const struct mem_fork *f, const struct mem_range *ranges, size_t n);
/* Kills and reaps the child; does nothing if there is none. Only the thread that made it may call this. */
void mem_fork_end(struct mem_fork *f);

#endif
