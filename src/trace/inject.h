/* System calls in a thread that is stopped by the caller's ptrace; afterwards it is as it was before.
 *
 * inject_enter(), any number of inject_call(), inject_leave(). In between the thread stands on its way home
 * (sigframe.h): whenever the tracer is killed, also in the middle of a call, it finds back by itself. Where there is no
 * such way, and in a task that has not been entered, a tracer that is killed within the some 100 us of a call leaves it
 * with registers that are not its own: its options of ptrace should have PTRACE_O_EXITKILL for that time.
 *
 * Free-standing: used inside criu (remote_call_do.c), which may have another C library, and by fsched-worker, whatever
 * of the two is the tracer. */
#ifndef FSCHED_TRACE_INJECT_H
#define FSCHED_TRACE_INJECT_H

#include <stddef.h>

#include "trace/sigframe.h"

#define INJECT_REGS_MAX 512

struct injection {
	int pid; /* as the tracer sees it; seized with PTRACE_SEIZE and stopped by PTRACE_INTERRUPT or criu */
	unsigned long during, after; /* options of ptrace: for the time of the call, and then; PTRACE_O_TRACESYSGOOD is
					needed in during */
	unsigned long child_options; /* for a task that the call makes, if during has PTRACE_O_TRACECLONE */
	void *regs;                  /* NT_PRSTATUS: with which the call is to be made; out: when it had returned */
	size_t len, room;            /* of regs: used, in all; at most INJECT_REGS_MAX */
	int child;                   /* out: such a task, 0 = none */
};

/* All: 0, or -errno; -ESRCH: it has ended. Not re-entrant. */

/* One thread at a time. Blocks its signals; a failure means that there is no way home, and that it is as before. */
long inject_enter(int pid, struct return_path *w);
/* Afterwards the thread stands where it stood, registers, signal mask and all, stopped at a point from which the kernel
 * restarts an interrupted call when it is detached. */
long inject_call(struct injection *in);
/* Harmless if it has not been entered. */
long inject_leave(int pid);

/* wait4(pid, status, __WALL) for what ends or stops at once. Kills the calling process after some 5 s. */
long inject_wait(int pid, int *status);

/* For tests: SIGKILL for the calling process at the so many-th step from now; 0: never. */
extern unsigned inject_kill_at;
void inject_step(void);

#endif
