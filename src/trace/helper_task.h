/* A helper task is a task that fsched makes beside a process of the job. It shares the memory of the process and
 * nothing else, has no open files, and runs only for the system calls that are injected into it. So what such a call
 * makes or leaves behind does not belong to the process.
 *
 * A thread of the process (the owner) is stopped by a tracer and makes the helper task with clone(). While there is a
 * helper task, the owner's registers point to a signal frame that restores its original state (trace/inject.h). If the
 * tracer is killed, the helper task ends, the owner reaps it and continues where it was stopped.
 *
 * If call_site_find() finds no return path, the kernel kills the process if the tracer is killed within the clone().
 * If the tracer is killed after the clone(), a zombie stays with the process.
 *
 * Under a seccomp filter the zombie stays as well. The process survives unless the tracer is killed in one of the two
 * calls of the owner, clone() and wait4(), and the filter kills for that call. */
#ifndef FSCHED_TRACE_HELPER_TASK_H
#define FSCHED_TRACE_HELPER_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "trace/sigframe.h"

struct helper_task {
	int tracer;              /* as in trace/tracer.h */
	pid_t inner;             /* the owner, as the tracer sees it */
	pid_t host;              /* the process of the owner, in the PID namespace of the caller */
	struct return_path path; /* of the owner */
	bool entered;            /* the owner is on its return path */
	pid_t pid;               /* of the helper task, as the tracer sees it; 0 = there is none */
};

/* Makes the helper task of the stopped thread inner. After a failure helper_task_end() must be called as well. */
int helper_task_make(struct helper_task *t, int tracer, pid_t inner, pid_t host, struct err *err);
/* Instead of helper_task_make(): makes no helper task, but prepares the owner for calls of its own.
 * helper_task_end() ends it, too. Without a return path the kernel kills the process if the tracer is killed within a
 * call. */
int helper_task_enter(struct helper_task *t, int tracer, pid_t inner, pid_t host, struct err *err);
/* Makes a system call in the owner. Returns 0 if the call was made; *result is what the kernel returned, which may be a
 * negative errno. */
int helper_task_call_thread(const struct helper_task *t, const char *name, long nr, const long args[6], long *result,
			    struct err *err);
/* Makes a system call in the helper task, or in a task pid that the helper task has made. name is for messages. A
 * negative result of the call is an error. *child is the task that the call has made, with PTRACE_O_EXITKILL, or 0.
 * result and child may be NULL. */
int helper_task_call(const struct helper_task *t, pid_t pid, const char *name, long nr, const long args[6],
		     long *result, pid_t *child, struct err *err);
/* Returns the pid of the helper task in the PID namespace of the caller; 0 = not found. */
pid_t helper_task_host(const struct helper_task *t);
/* Kills and reaps the helper task and restores the registers of the owner. Does nothing if there is neither. */
int helper_task_end(struct helper_task *t, struct err *err);

/* Returns the child of process parent whose pid in its innermost PID namespace is inner; 0 = not found. parent and the
 * result are pids in the namespace of the caller. */
pid_t helper_task_find_child(pid_t parent, pid_t inner);

#endif
