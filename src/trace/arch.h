/* What differs between machines when a process is made to do a system call. One arch_<machine>.c each; elsewhere
 * arch_can_inject() is false and nothing is injected. */
#ifndef FSCHED_TRACE_ARCH_H
#define FSCHED_TRACE_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "trace/tracer.h"

bool arch_can_inject(void);
/* Offset of an instruction that makes a system call, in len bytes of code; -1 if there is none. */
long arch_find_syscall(const uint8_t *code, size_t len);
/* Likewise of one with a return behind it, and of code that calls rt_sigreturn(). */
long arch_find_returning_syscall(const uint8_t *code, size_t len);
long arch_find_sigreturn(const uint8_t *code, size_t len);
uint64_t arch_stack_pointer(const struct tracer_regs *r);
/* r becomes: about to call nr(args) at the instruction at pc, in no system call before. */
void arch_prepare_syscall(struct tracer_regs *r, uint64_t pc, long nr, const long args[6]);
/* Its result, once it has returned. */
long arch_syscall_result(const struct tracer_regs *r);
/* False for registers of a process that is not in this machine's native mode (32-bit programs). */
bool arch_is_native(const struct tracer_regs *r);

#endif
