/* One system call in a process that is stopped by the caller's ptrace; afterwards it is as it was before.
 *
 * Free-standing: used inside criu (hand.c), which may have another C library, and by fsched-worker, whatever of the two is the tracer. */
#ifndef FSCHED_PRELOAD_INJECT_H
#define FSCHED_PRELOAD_INJECT_H

#include <stddef.h>

#define INJECT_REGS_MAX 512

struct injection {
	int    pid;                  /* as the tracer sees it; seized with PTRACE_SEIZE and stopped by PTRACE_INTERRUPT or criu */
	unsigned long during, after; /* options of ptrace: for the time of the call, and then; PTRACE_O_TRACESYSGOOD is needed in during */
	unsigned long child_options; /* for a task that the call makes, if during has PTRACE_O_TRACECLONE */
	void  *regs;                 /* NT_PRSTATUS: with which the call is to be made; out: when it had returned */
	size_t len, room;            /* of regs: used, in all; at most INJECT_REGS_MAX */
	int    child;                /* out: such a task, 0 = none */
};

/* 0, or -errno; -ESRCH: it has ended. Then it stands where it stood, registers, signal mask and all, stopped at a point from which the
 * kernel restarts an interrupted call. Not re-entrant. A tracer that is killed meanwhile has only some 100 us in which the process
 * could be hit with registers that are not its own. */
long inject_call(struct injection *in);

#endif
