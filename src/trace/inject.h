/* Makes system calls in a thread that the caller has stopped with ptrace, and restores the thread afterwards.
 *
 * The order is inject_enter(), any number of inject_call(), inject_leave(). Between enter and leave the thread's
 * registers point to a signal frame that restores its original state (sigframe.h). If the tracer is killed at any
 * moment, also within a call, the thread continues where it was stopped.
 *
 * A thread that has no return path, or that has not been entered, keeps foreign registers if the tracer is killed
 * within the about 100 us of a call. For that time its ptrace options should include PTRACE_O_EXITKILL.
 *
 * Free-standing: used inside criu (preload/remote_call_server.c), which may have another C library, and by
 * fsched-worker; each can be the tracer. */
#ifndef FSCHED_TRACE_INJECT_H
#define FSCHED_TRACE_INJECT_H

#include <stddef.h>

#include "trace/sigframe.h"

#define INJECT_REGS_MAX 512

struct injection {
	/* The thread, as the tracer sees it: attached with PTRACE_SEIZE, stopped by PTRACE_INTERRUPT or by criu. */
	int pid;
	/* Ptrace options for the time of the call (PTRACE_O_TRACESYSGOOD is required), and for the time after it. */
	unsigned long during, after;
	/* Ptrace options for a task that the call makes; used if during has PTRACE_O_TRACECLONE. */
	unsigned long child_options;
	void *regs;       /* NT_PRSTATUS for the call; out: the registers after the call */
	size_t len, room; /* bytes of regs: used, available; at most INJECT_REGS_MAX */
	int child;        /* out: the task that the call has made, 0 = none */
};

/* All functions return 0 or -errno; -ESRCH means that the thread has ended. They are not re-entrant. */

/* Puts the thread on its return path and blocks its signals. Only one thread can be entered at a time (-EBUSY). After a
 * failure there is no return path, and the thread is unchanged. */
long inject_enter(int pid, struct return_path *w);
/* Makes the call. Afterwards the registers and the signal mask are as before, and the thread is stopped at a point from
 * which the kernel restarts an interrupted system call when the tracer detaches. */
long inject_call(struct injection *in);
/* Restores the state from before inject_enter(). Does nothing if the thread has not been entered. */
long inject_leave(int pid);

/* wait4(pid, status, __WALL) for a task that stops or ends at once. Kills the calling process after about 5 s. */
long inject_wait(int pid, int *status);

/* For tests: the calling process gets SIGKILL at the inject_kill_at-th step from now; 0 = never. */
extern unsigned inject_kill_at;
/* Counts a step. */
void inject_step(void);

#endif
