/* Whether a thread is about to make the system call for which its tracer has set its registers.
 *
 * The thread runs from there to the entry of the call, with code that another task can change at that moment: one that
 * shares the memory but belongs to another process (CLONE_VM), and so was not stopped. Meanwhile seccomp is suspended.
 * At the entry the kernel has taken number and arguments, and nobody but the tracer can change them any more.
 *
 * Free-standing, as inject.h. */
#ifndef FSCHED_TRACE_SYSCALL_ENTRY_H
#define FSCHED_TRACE_SYSCALL_ENTRY_H

#include <stddef.h>

/* At the stop at the entry. regs: NT_PRSTATUS as set before. 0: it is that call, at that instruction. Else -errno
 * (-EPERM: it is another one), and the kernel will do no call, but go on to the stop at its exit. */
long syscall_entry_check(int pid, const void *regs, size_t len);

#endif
