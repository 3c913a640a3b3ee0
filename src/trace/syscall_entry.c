#include "trace/syscall_entry.h"

#include <stdbool.h>
#include <sys/syscall.h>

#include "trace/raw_syscall.h"

#if defined(__x86_64__)
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <sys/user.h>

#define PRSTATUS    1
#define INSTRUCTION 2 /* bytes of `syscall` */

struct vector {
	void *base;
	size_t len;
};

static long syscall_entry_ptrace(long request, int pid, unsigned long addr, void *data)
{
	return raw_syscall(SYS_ptrace, request, pid, (long)addr, (long)data, 0, 0);
}

/* The architecture has to match, too: `int $0x80` has the same length, and its numbers are those of other calls. */
static bool syscall_entry_matches(const struct user_regs_struct *set, const struct ptrace_syscall_info *now)
{
	return now->op == PTRACE_SYSCALL_INFO_ENTRY && now->arch == AUDIT_ARCH_X86_64 &&
	       now->instruction_pointer == set->rip + INSTRUCTION && now->entry.nr == set->rax &&
	       now->entry.args[0] == set->rdi && now->entry.args[1] == set->rsi && now->entry.args[2] == set->rdx &&
	       now->entry.args[3] == set->r10 && now->entry.args[4] == set->r8 && now->entry.args[5] == set->r9;
}

static long syscall_entry_cancel(int pid)
{
	struct user_regs_struct r;
	struct vector v = { &r, sizeof(r) };
	long ret = syscall_entry_ptrace(PTRACE_GETREGSET, pid, PRSTATUS, &v);

	if (ret < 0)
		return ret;
	r.orig_rax = ~0ul;
	return syscall_entry_ptrace(PTRACE_SETREGSET, pid, PRSTATUS, &v);
}

long syscall_entry_check(int pid, const void *regs, size_t len)
{
	struct ptrace_syscall_info now;
	long ret = len == sizeof(struct user_regs_struct) ? 0 : -EINVAL, cancelled;

	if (ret == 0 && syscall_entry_ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(now), &now) <
				(long)(offsetof(struct ptrace_syscall_info, entry) + sizeof(now.entry)))
		ret = -ENOTSUP;
	if (ret == 0 && !syscall_entry_matches(regs, &now))
		ret = -EPERM;
	if (ret == 0)
		return 0;
	cancelled = syscall_entry_cancel(pid);
	return cancelled < 0 ? cancelled : ret;
}

#else

long syscall_entry_check(int pid, const void *regs, size_t len)
{
	(void)pid;
	(void)regs;
	(void)len;
	return -ENOTSUP;
}

#endif
