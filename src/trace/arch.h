/* The machine-dependent part of making a process do a system call. It is implemented for x86_64 in arch.c. On other
 * machines arch_can_inject() is false, and nothing is injected. */
#ifndef FSCHED_TRACE_ARCH_H
#define FSCHED_TRACE_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "trace/tracer.h"

/* True if system calls can be injected on this machine. */
bool arch_can_inject(void);
/* Returns the offset of a system call instruction in len bytes of code, or -1 if the code has none. */
long arch_find_syscall(const uint8_t *code, size_t len);
/* Like arch_find_syscall(), but a return instruction has to follow the system call instruction. */
long arch_find_returning_syscall(const uint8_t *code, size_t len);
/* Like arch_find_syscall(), but for code that calls rt_sigreturn(). */
long arch_find_sigreturn(const uint8_t *code, size_t len);
/* Returns the stack pointer in r. */
uint64_t arch_stack_pointer(const struct tracer_regs *r);
/* Changes r so that the thread is about to call nr(args) by the instruction at pc, and is in no other system call. */
void arch_prepare_syscall(struct tracer_regs *r, uint64_t pc, long nr, const long args[6]);
/* Returns the result of a system call from the registers that the thread has after the call. */
long arch_syscall_result(const struct tracer_regs *r);
/* False for the registers of a thread that is not in this machine's native mode (a 32-bit program). */
bool arch_is_native(const struct tracer_regs *r);

#endif
