/* The way home of a thread that is made to call something else: if its tracer dies, it finds back by itself.
 *
 * Below its red zone, where the kernel would put the frame of a signal, lie frames as if signals had been delivered. A
 * call is made at an instruction `syscall` with `ret` behind it: that returns to code of the process's own which calls
 * rt_sigreturn(), the end of every handler, and that takes all registers, the state of the FPU and the mask of signals
 * from the frame. As long as the tracer is there it sets registers itself, and no frame is used.
 *
 * Three frames. *last*: the thread as it was. *reap*, before it: wait4() for a child that was made meanwhile, so that
 * it does not stay as a zombie. *child*: _exit(), for that child, which shares the memory; its stack begins there.
 *
 * Free-standing, as inject.h. */
#ifndef FSCHED_TRACE_SIGFRAME_H
#define FSCHED_TRACE_SIGFRAME_H

#include <stddef.h>
#include <stdint.h>

struct return_path {
	/* Of the process: */
	uint64_t call;    /* an instruction that makes a system call; `ret` follows if there is a way home */
	uint64_t restore; /* code that calls rt_sigreturn(); 0: there is no way home */
	uint64_t low;     /* down to where the stack of the thread may be used */
	uint64_t reap;    /* 1: the child is waited for. A filter that kills for wait4() is better not asked */
	/* Filled in: */
	uint64_t child_stack; /* for clone() */
	uint64_t child_pid;   /* where CLONE_PARENT_SETTID is to put the pid of the child */
};

/* What the thread pid of the caller's has on its way: regs, NT_PRSTATUS, and mask. It is stopped. Writes the frames,
 * and into home the registers with which it goes: at `ret`, in no system call. A call that was interrupted is made
 * again, or ends with EINTR where only the kernel knew how much of it was left (nanosleep, poll), as after a restore.
 * -errno: there is no way home from here. */
long sigframe_write(int pid, const void *regs, size_t len, uint64_t mask, struct return_path *w, void *home);

#endif
