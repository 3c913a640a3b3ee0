/* Checks that a thread is about to make the system call for which its tracer has set its registers.
 *
 * The thread runs from there to the entry of the call. Another task can change the code at that moment: a task that
 * shares the memory but belongs to another process (CLONE_VM), and therefore was not stopped. Seccomp is suspended
 * meanwhile. At the entry the kernel has read the number and the arguments of the call, and only the tracer can change
 * them from then on.
 *
 * Free-standing, as inject.h. Implemented for x86_64 only (elsewhere -ENOTSUP). */
#ifndef FSCHED_TRACE_SYSCALL_ENTRY_H
#define FSCHED_TRACE_SYSCALL_ENTRY_H

#include <stddef.h>

/* To be called at the syscall-entry stop. regs: NT_PRSTATUS as the tracer has set it before, len bytes. Returns 0 if
 * the thread is at the entry of that call, made by that instruction. Otherwise returns -errno (-EPERM: it is another
 * call), and the call is cancelled: the kernel makes no call and continues to the syscall-exit stop. */
long syscall_entry_check(int pid, const void *regs, size_t len);

#endif
