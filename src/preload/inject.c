#include "inject.h"

#include <linux/wait.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "raw_syscall.h"

#define PT_CONT         7
#define PT_SYSCALL      24
#define PT_SETOPTIONS   0x4200
#define PT_GETEVENTMSG  0x4201
#define PT_GETREGSET    0x4204
#define PT_SETREGSET    0x4205
#define PT_INTERRUPT    0x4207
#define PT_GETSIGMASK   0x420a
#define PT_SETSIGMASK   0x420b
#define PRSTATUS        1
#define EVENT_CLONE     3
#define EVENT_STOP      128
#define SYSCALL_STOP    (5 | 0x80)  /* SIGTRAP with PTRACE_O_TRACESYSGOOD */
#define SIG_STOP        19
#define STOPS_MAX       64

struct vector { void *base; size_t len; };

static long pt(long request, int pid, unsigned long addr, void *data)
{
	return raw_syscall(SYS_ptrace, request, pid, (long)addr, (long)data, 0, 0);
}

/* The status of the next stop, or negative: it has ended, or criu is no tracer of it. */
static long next_stop(int pid)
{
	int status = 0;
	long got;

	do
		got = raw_syscall(SYS_wait4, pid, (long)&status, __WALL, 0, 0, 0);
	while (got == -EINTR);
	if (got < 0)
		return got;
	return (status & 0xff) == 0x7f ? status : -ESRCH;
}

static long adopt(struct injection *in)
{
	unsigned long child = 0;
	long ret = pt(PT_GETEVENTMSG, in->pid, 0, &child);

	if (ret < 0)
		return ret;
	in->child = (int)child;
	ret = next_stop(in->child);
	return ret < 0 ? ret : pt(PT_SETOPTIONS, in->child, 0, (void *)in->child_options);
}

/* From the entry to the exit of the call at which the registers stand. */
static long run_call(struct injection *in, bool *was_stopped)
{
	long status, ret;

	for (int stops = 0, seen = 0; stops < STOPS_MAX; stops++) {
		ret = pt(PT_SYSCALL, in->pid, 0, NULL);
		if (ret < 0)
			return ret;
		status = next_stop(in->pid);
		if (status < 0)
			return status;
		if (status >> 16 == EVENT_CLONE && (ret = adopt(in)) < 0)
			return ret;
		if (status >> 16)
			continue;
		if (status >> 8 == SYSCALL_STOP && ++seen == 2)
			return 0;
		if (status >> 8 == SIG_STOP)
			*was_stopped = true; /* a SIGSTOP came meanwhile */
		else if (status >> 8 != SYSCALL_STOP)
			return -EFAULT; /* a fault at the instruction */
	}
	return -ELOOP;
}

/* Only on the way through the handling of signals does the kernel look whether an interrupted call is to be restarted. */
static long settle(int pid)
{
	long status, ret = pt(PT_INTERRUPT, pid, 0, NULL);

	for (int stops = 0; ret >= 0 && stops < STOPS_MAX; stops++) {
		ret = pt(PT_CONT, pid, 0, NULL);
		if (ret < 0)
			return ret;
		status = next_stop(pid);
		if (status < 0)
			return status;
		if (status >> 16 == EVENT_STOP)
			return 0;
	}
	return ret < 0 ? ret : -ELOOP;
}

long inject_call(struct injection *in)
{
	static unsigned char saved[INJECT_REGS_MAX];
	struct vector old = { saved, sizeof(saved) }, new = { in->regs, in->len };
	unsigned long mask = 0, all = ~0UL;
	bool was_stopped = false;
	long ret, back;

	in->child = 0;
	if (in->room > INJECT_REGS_MAX || in->len > in->room)
		return -EINVAL;
	if ((ret = pt(PT_GETREGSET, in->pid, PRSTATUS, &old)) < 0 || (ret = pt(PT_GETSIGMASK, in->pid, sizeof(mask), &mask)) < 0 ||
	    (ret = pt(PT_SETSIGMASK, in->pid, sizeof(all), &all)) < 0)
		return ret;
	ret = pt(PT_SETOPTIONS, in->pid, 0, (void *)in->during);
	if (ret >= 0)
		ret = pt(PT_SETREGSET, in->pid, PRSTATUS, &new);
	if (ret >= 0)
		ret = run_call(in, &was_stopped);
	new.len = in->room;
	if (ret >= 0)
		ret = pt(PT_GETREGSET, in->pid, PRSTATUS, &new);
	in->len = new.len;
	if ((back = pt(PT_SETREGSET, in->pid, PRSTATUS, &old)) >= 0)
		back = settle(in->pid);
	pt(PT_SETOPTIONS, in->pid, 0, (void *)in->after);
	pt(PT_SETSIGMASK, in->pid, sizeof(mask), &mask);
	if (was_stopped)
		raw_syscall(SYS_kill, in->pid, SIG_STOP, 0, 0, 0, 0);
	return ret < 0 ? ret : back;
}
