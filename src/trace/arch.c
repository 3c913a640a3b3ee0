#include "trace/arch.h"

#include <string.h>

#if defined(__x86_64__)
#include <sys/user.h>

#define USER_CS 0x33 /* of 64-bit programs */

bool arch_can_inject(void)
{
	return true;
}

static long arch_find_code(const uint8_t *code, size_t len, const char *what, size_t n)
{
	const uint8_t *p = memmem(code, len, what, n);

	return p ? p - code : -1;
}

#define FIND(code, len, what) arch_find_code(code, len, what, sizeof(what) - 1)

long arch_find_syscall(const uint8_t *code, size_t len)
{
	return FIND(code, len, "\x0f\x05");
}

long arch_find_returning_syscall(const uint8_t *code, size_t len)
{
	return FIND(code, len, "\x0f\x05\xc3");
}

/* The two encodings of "load 15, the number of rt_sigreturn()". */
long arch_find_sigreturn(const uint8_t *code, size_t len)
{
	long at = FIND(code, len, "\x48\xc7\xc0\x0f\0\0\0\x0f\x05");

	return at >= 0 ? at : FIND(code, len, "\xb8\x0f\0\0\0\x0f\x05");
}

uint64_t arch_stack_pointer(const struct tracer_regs *r)
{
	struct user_regs_struct u;

	memcpy(&u, r->bytes, sizeof(u));
	return u.rsp;
}

void arch_prepare_syscall(struct tracer_regs *r, uint64_t pc, long nr, const long args[6])
{
	struct user_regs_struct u;

	memcpy(&u, r->bytes, sizeof(u));
	u.rip = pc;
	u.rax = (unsigned long)nr;
	u.orig_rax = ~0UL; /* the kernel must not restart the call that was interrupted */
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

long arch_find_returning_syscall(const uint8_t *code, size_t len)
{
	return arch_find_syscall(code, len);
}

long arch_find_sigreturn(const uint8_t *code, size_t len)
{
	return arch_find_syscall(code, len);
}

uint64_t arch_stack_pointer(const struct tracer_regs *r)
{
	(void)r;
	return 0;
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
