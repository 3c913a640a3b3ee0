/* A task beside a process: it shares the process's memory and nothing else, has no open files, and never runs but for
 * calls that it is made to do. So whatever such a call makes, or leaves behind, is not the process's.
 *
 * The process's thread is stopped by a tracer. While there is a helper task it stands on its way home (trace/inject.h):
 * if the tracer is killed the helper task ends, the thread reaps it and goes on where it was. Where it has no such way
 * (call_site_find()), the kernel kills the process if the tracer is killed within the clone(), and afterwards a zombie
 * stays with it; under a seccomp filter the zombie stays, and the process lives unless it is killed in one of its two
 * calls, clone() and wait4(), and the filter kills for that. */
#ifndef FSCHED_TRACE_HELPER_TASK_H
#define FSCHED_TRACE_HELPER_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "trace/sigframe.h"

struct helper_task {
	int tracer;        /* of trace/tracer.h */
	pid_t inner, host; /* the thread, as the tracer sees it; the process here */
	struct return_path way;
	bool entered;
	pid_t pid; /* as the tracer sees it; 0 = there is none */
};

/* Every step that fails leaves it to be ended. */
int helper_task_make(struct helper_task *m, int tracer, pid_t inner, pid_t host, struct err *err);
/* Instead of helper_task_make(), without such a task, for calls of the thread itself; helper_task_end() ends it
 * likewise. If there is no way home the kernel kills the process if the tracer is killed within a call. */
int helper_task_enter(struct helper_task *m, int tracer, pid_t inner, pid_t host, struct err *err);
/* 0: the call was made, *result is what the kernel said, negative errno included. */
int helper_task_call_thread(const struct helper_task *m, const char *name, long nr, const long args[6], long *result,
			    struct err *err);
/* A system call in it, or in a task that it has made; *result >= 0, *child a task that is made, with PTRACE_O_EXITKILL;
 * each may be NULL. */
int helper_task_call(const struct helper_task *m, pid_t pid, const char *name, long nr, const long args[6],
		     long *result, pid_t *child, struct err *err);
/* Its pid here, 0 = not found. */
pid_t helper_task_host(const struct helper_task *m);
/* Ends and reaps it, the thread is as it was. Harmless if there is none. */
int helper_task_end(struct helper_task *m, struct err *err);

/* The pid here of the child of a process here, whose pid in its innermost namespace is inner; 0 = not found. */
pid_t helper_task_find_child(pid_t parent, pid_t inner);

#endif
