/* Ptrace by way of criu, which has the job's processes stopped: the worker's end of src/trace/remote_call.h.
 *
 * Pids are those inside the pod. Every call is a round trip of about 50 us. A criu that has died makes every call fail,
 * and the job runs on. */
#ifndef FSCHED_TRACE_TRACER_H
#define FSCHED_TRACE_TRACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "trace/remote_call.h"
#include "trace/sigframe.h"

/* In the place of tracer: the calling thread is the tracer itself. */
#define TRACER_SELF (-2)

/* Registers as PTRACE_GETREGSET gives them; what is in them only arch.h knows. */
struct tracer_regs {
	uint8_t bytes[512];
	size_t len;
};

/* All: 0 or a positive result, -1 with errno. tracer: struct criu_dump.tracer, or the worker's end in a restore. */
int tracer_get_regs(int tracer, pid_t pid, struct tracer_regs *r);
int tracer_set_regs(int tracer, pid_t pid, const struct tracer_regs *r);
int tracer_set_options(int tracer, pid_t pid, unsigned long options);
int tracer_detach(int tracer, pid_t pid);
/* Waits for its next stop or its end; *status as of wait(). */
int tracer_wait(int tracer, pid_t pid, int *status);
int tracer_kill(int tracer, pid_t pid, int sig);

/* trace/inject.h: what it says of a thread's way home. */
int tracer_enter(int tracer, pid_t pid, struct return_path *w);
int tracer_leave(int tracer, pid_t pid);
/* For tests: the tracer gets SIGKILL at that step of an injection from now. */
int tracer_die_at(int tracer, unsigned step);
/* Options of ptrace: while a call lasts, after it, and for a child that it makes. */
struct tracer_options {
	unsigned long during, after, child;
};
/* One system call in a stopped process, with the registers *r, which become those after it.
 * *child: the pid of one that it made, 0 = none; also filled if only what comes afterwards failed. */
int tracer_inject(int tracer, pid_t pid, struct tracer_regs *r, const struct tracer_options *o, pid_t *child);
/* In a dump: the shared memory that criu was told to be holes; *v is the caller's. */
int tracer_shared(int tracer, struct elided_object **v, size_t *n);

/* In a restore: waits for READY. 1 = it is there, 0 = criu has ended before, -1 errno (ETIMEDOUT: not within
 * timeout_ms). */
int tracer_await_ready(int tracer, int timeout_ms);
/* In a restore: criu lets the processes go. */
int tracer_go(int tracer);

#endif
