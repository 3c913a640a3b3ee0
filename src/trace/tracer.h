/* Ptrace through the tracer of the job's processes: the worker's end of trace/remote_call.h.
 *
 * Pids are those in the pod. If criu is the tracer, every call is a round trip of about 50 us. If criu has died, every
 * call fails, and the job runs again. */
#ifndef FSCHED_TRACE_TRACER_H
#define FSCHED_TRACE_TRACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "trace/remote_call.h"
#include "trace/sigframe.h"

/* The tracer argument if the calling thread is the tracer itself. */
#define TRACER_SELF (-2)

/* Registers as PTRACE_GETREGSET returns them (NT_PRSTATUS). Only arch.h knows what they mean. */
struct tracer_regs {
	uint8_t bytes[512];
	size_t len; /* bytes used */
};

/* All functions return 0 or a positive result, or -1 with errno: EPIPE = criu has ended, ETIMEDOUT = no answer within
 * 10 s. tracer: TRACER_SELF, struct criu_dump.remote_call in a dump, or the worker's end of the socket in a restore. */
int tracer_get_regs(int tracer, pid_t pid, struct tracer_regs *r);
int tracer_set_regs(int tracer, pid_t pid, const struct tracer_regs *r);
int tracer_set_options(int tracer, pid_t pid, unsigned long options);
int tracer_detach(int tracer, pid_t pid);
/* Waits until pid stops or ends; *status as of wait(). */
int tracer_wait(int tracer, pid_t pid, int *status);
int tracer_kill(int tracer, pid_t pid, int sig);

/* inject_enter() and inject_leave() of trace/inject.h. */
int tracer_enter(int tracer, pid_t pid, struct return_path *w);
int tracer_leave(int tracer, pid_t pid);
/* For tests: the tracer gets SIGKILL at that step of an injection from now. */
int tracer_die_at(int tracer, unsigned step);
/* Ptrace options: while a call lasts, after it, and for a child that it makes. */
struct tracer_options {
	unsigned long during, after, child;
};
/* Makes one system call in a stopped thread, with the registers *r. *r becomes the registers after the call.
 * *child is the pid of a task that the call has made, 0 = none. It is also set if only a later step has failed. */
int tracer_inject(int tracer, pid_t pid, struct tracer_regs *r, const struct tracer_options *o, pid_t *child);
/* In a dump: lists the shared memory that criu takes for holes. The caller frees *v. */
int tracer_shared(int tracer, struct elided_object **v, size_t *n);

/* In a restore: waits for REMOTE_CALL_READY. Returns 1 = it has come, 0 = criu has ended before, -1 = errno
 * (ETIMEDOUT: it has not come within timeout_ms). */
int tracer_await_ready(int tracer, int timeout_ms);
/* In a restore: criu resumes the processes. */
int tracer_go(int tracer);

#endif
