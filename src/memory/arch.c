#include "memory/arch.h"

#include <string.h>

#if defined(__x86_64__)
#include <sys/user.h>

#define USER_CS 0x33  /* of 64-bit programs */

bool arch_can_inject(void)
{
	return true;
}

long arch_find_syscall(const uint8_t *code, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++)
		if (code[i] == 0x0f && code[i + 1] == 0x05)
			return (long)i;
	return -1;
}

void arch_prepare_syscall(struct tracer_regs *r, uint64_t pc, long nr, const long args[6])
{
	struct user_regs_struct u;

	memcpy(&u, r->bytes, sizeof(u));
	u.rip = pc;
	u.rax = (unsigned long)nr;
	u.orig_rax = ~0UL;   /* the kernel must not restart the call that was interrupted */
	u.rdi = (unsigned long)args[0];
	u.rsi = (unsigned long)args[1];
	u.rdx = (unsigned long)args[2];
	u.r10 = (unsigned long)args[3];
	u.r8 = (unsigned long)args[4];
	u.r9 = (unsigned long)args[5];
	memcpy(r->bytes, &u, sizeof(u));
}

long arch_syscall_result(const struct tracer_regs *r)
{
	struct user_regs_struct u;

	memcpy(&u, r->bytes, sizeof(u));
	return (long)u.rax;
}

bool arch_is_native(const struct tracer_regs *r)
{
	struct user_regs_struct u;

	if (r->len != sizeof(u))
		return false;
	memcpy(&u, r->bytes, sizeof(u));
	return u.cs == USER_CS;
}

#else

bool arch_can_inject(void)
{
	return false;
}

long arch_find_syscall(const uint8_t *code, size_t len)
{
	(void)code;
	(void)len;
	return -1;
}

void arch_prepare_syscall(struct tracer_regs *r, uint64_t pc, long nr, const long args[6])
{
	(void)r;
	(void)pc;
	(void)nr;
	(void)args;
}

long arch_syscall_result(const struct tracer_regs *r)
{
	(void)r;
	return -1;
}

bool arch_is_native(const struct tracer_regs *r)
{
	(void)r;
	return false;
}

#endif
