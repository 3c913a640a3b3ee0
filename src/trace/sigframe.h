/* The return path of a thread into which a system call is injected: if its tracer dies, the thread restores itself.
 *
 * Signal frames are written below the red zone of the thread, where the kernel would put the frame of a signal. They
 * look as if signals had been delivered. The injected call is made at a `syscall` instruction that is followed by
 * `ret`. The `ret` goes to code of the process that calls rt_sigreturn(), as every signal handler does at its end, and
 * rt_sigreturn() restores all registers, the FPU state and the signal mask from the frame. While the tracer lives, it
 * sets the registers itself, and no frame is used.
 *
 * There are three frames:
 *
 * - *last* restores the thread as it was stopped.
 *
 * - *reap* comes before *last*: wait4() for a child that was made meanwhile, so that it does not stay as a zombie.
 *
 * - *child*: _exit() for that child, which shares the memory. Its stack begins at this frame.
 *
 * Free-standing, as inject.h. Implemented for x86_64 only. */
#ifndef FSCHED_TRACE_SIGFRAME_H
#define FSCHED_TRACE_SIGFRAME_H

#include <stddef.h>
#include <stdint.h>

struct return_path {
	/* In: what call_site_find() has found in the process. */
	uint64_t call;    /* address of a system call instruction; `ret` follows it if restore is set */
	uint64_t restore; /* address of code that calls rt_sigreturn(); 0 = there is no return path */
	uint64_t low;     /* lowest address of the thread's stack that may be used */
	uint64_t reap;    /* 1 = wait for the child; 0 under a seccomp filter, which could kill for wait4() */
	/* Out: filled by sigframe_write(). */
	uint64_t child_stack; /* stack pointer for clone() */
	uint64_t child_pid;   /* address to which CLONE_PARENT_SETTID has to write the pid of the child */
};

/* Writes the frames for the stopped tracee pid of the caller, whose state is regs (NT_PRSTATUS, len bytes) and mask.
 * Fills home, of len bytes, with the registers that start the return path: at `ret`, in no system call.
 *
 * A system call that was interrupted is made again. Where only the kernel knows how much of it was left (nanosleep,
 * poll), it ends with EINTR.
 *
 * Returns 0, or -errno if the thread has no return path at this point. */
long sigframe_write(int pid, const void *regs, size_t len, uint64_t mask, struct return_path *w, void *home);

#endif
