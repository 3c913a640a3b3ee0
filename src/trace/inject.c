#include "trace/inject.h"

#include <linux/wait.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "trace/syscall_entry.h"
#include "trace/raw_syscall.h"

#define PT_SYSCALL     24
#define PT_SETOPTIONS  0x4200
#define PT_GETEVENTMSG 0x4201
#define PT_GETREGSET   0x4204
#define PT_SETREGSET   0x4205
#define PT_GETSIGMASK  0x420a
#define PT_SETSIGMASK  0x420b
#define PRSTATUS       1
#define EVENT_CLONE    3
#define SYSCALL_STOP   (5 | 0x80) /* SIGTRAP with PTRACE_O_TRACESYSGOOD */
#define SIG_KILL       9
#define SIG_STOP       19
#define STOPS_MAX      64

struct vector {
	void *base;
	size_t len;
};

/* The thread that has been entered. */
static struct {
	int pid; /* 0 = none */
	size_t len;
	_Alignas(8) unsigned char regs[INJECT_REGS_MAX], home[INJECT_REGS_MAX];
	unsigned long mask;
} entered;

unsigned inject_kill_at;

void inject_step(void)
{
	if (inject_kill_at && --inject_kill_at == 0)
		raw_syscall(SYS_kill, raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), SIG_KILL, 0, 0, 0, 0);
}

static long inject_ptrace(long request, int pid, unsigned long addr, void *data)
{
	inject_step();
	return raw_syscall(SYS_ptrace, request, pid, (long)addr, (long)data, 0, 0);
}

struct time {
	long s, ns;
};

/* A tracee that runs a single system call stops again within microseconds. */
#define SPINS      2000
#define WAIT_STEPS 10000
static const struct time step = { 0, 500000 }; /* 5 s in all */

/* A thread that does not stop may do anything. Killing the tracer is safe: it may be killed in every state of an
 * injection. */
long inject_wait(int pid, int *status)
{
	long got;

	for (int n = 0; n < SPINS + WAIT_STEPS; n++) {
		got = raw_syscall(SYS_wait4, pid, (long)status, __WALL | WNOHANG, 0, 0, 0);
		if (got && got != -EINTR)
			return got;
		if (n < SPINS)
			raw_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		else
			raw_syscall(SYS_nanosleep, (long)&step, 0, 0, 0, 0, 0);
	}
	raw_syscall(SYS_kill, raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), SIG_KILL, 0, 0, 0, 0);
	return -ESRCH;
}

/* Returns the status of the next stop. -errno: the thread has ended, or the caller is not its tracer. */
static long inject_next_stop(int pid)
{
	int status = 0;
	long got;

	inject_step();
	got = inject_wait(pid, &status);
	if (got < 0)
		return got;
	return (status & 0xff) == 0x7f ? status : -ESRCH;
}

static long inject_adopt_child(struct injection *in)
{
	unsigned long child = 0;
	long ret = inject_ptrace(PT_GETEVENTMSG, in->pid, 0, &child);

	if (ret < 0)
		return ret;
	in->child = (int)child;
	ret = inject_next_stop(in->child);
	return ret < 0 ? ret : inject_ptrace(PT_SETOPTIONS, in->child, 0, (void *)in->child_options);
}

/* Resumes the thread until the syscall-exit stop of the call that its registers are about to make. */
static long inject_run_call(struct injection *in, bool *was_stopped)
{
	long status, ret, refused = 0;

	for (int stops = 0, seen = 0; stops < STOPS_MAX; stops++) {
		ret = inject_ptrace(PT_SYSCALL, in->pid, 0, NULL);
		if (ret < 0)
			return ret;
		status = inject_next_stop(in->pid);
		if (status < 0)
			return status;
		if (status >> 16 == EVENT_CLONE && (ret = inject_adopt_child(in)) < 0)
			return ret;
		if (status >> 16)
			continue;
		if (status >> 8 == SYSCALL_STOP && ++seen == 2)
			return refused;
		if (status >> 8 == SYSCALL_STOP)
			refused = syscall_entry_check(in->pid, in->regs, in->len);
		else if (status >> 8 == SIG_STOP)
			*was_stopped = true; /* a SIGSTOP came meanwhile */
		else
			return -EFAULT; /* a fault at the instruction */
	}
	return -ELOOP;
}

static long inject_get_regs(int pid, void *regs, size_t *len)
{
	struct vector v = { regs, *len };
	long ret = inject_ptrace(PT_GETREGSET, pid, PRSTATUS, &v);

	*len = v.len;
	return ret;
}

static long inject_set_regs(int pid, const void *regs, size_t len)
{
	struct vector v = { (void *)(unsigned long)regs, len };

	return inject_ptrace(PT_SETREGSET, pid, PRSTATUS, &v);
}

static long inject_set_mask(int pid, unsigned long mask)
{
	return inject_ptrace(PT_SETSIGMASK, pid, sizeof(mask), &mask);
}

/* After every step a thread whose tracer dies is either unchanged or on its return path. Signals are blocked only after
 * the registers are those of the return path, which unblocks them. */
long inject_enter(int pid, struct return_path *w)
{
	long ret;

	if (entered.pid)
		return -EBUSY;
	entered.len = sizeof(entered.regs);
	if ((ret = inject_get_regs(pid, entered.regs, &entered.len)) < 0 ||
	    (ret = inject_ptrace(PT_GETSIGMASK, pid, sizeof(entered.mask), &entered.mask)) < 0 ||
	    (ret = sigframe_write(pid, entered.regs, entered.len, entered.mask, w, entered.home)) < 0 ||
	    (ret = inject_set_regs(pid, entered.home, entered.len)) < 0)
		return ret;
	entered.pid = pid;
	ret = inject_set_mask(pid, ~0ul);
	if (ret < 0)
		inject_leave(pid);
	return ret;
}

long inject_leave(int pid)
{
	long mask, ret;

	if (entered.pid != pid)
		return 0;
	entered.pid = 0;
	mask = inject_set_mask(pid, entered.mask);
	ret = inject_set_regs(pid, entered.regs, entered.len);
	return ret < 0 ? ret : mask;
}

/* Makes the call, and then sets the registers back and the signal mask mask. */
static long inject_call_and_restore(struct injection *in, const void *back, size_t len, unsigned long mask)
{
	bool was_stopped = false;
	long ret, regs, masked;

	if ((ret = inject_set_mask(in->pid, ~0ul)) < 0)
		return ret;
	ret = inject_ptrace(PT_SETOPTIONS, in->pid, 0, (void *)in->during);
	if (ret >= 0)
		ret = inject_set_regs(in->pid, in->regs, in->len);
	if (ret >= 0)
		ret = inject_run_call(in, &was_stopped);
	in->len = in->room;
	if (ret >= 0)
		ret = inject_get_regs(in->pid, in->regs, &in->len);
	regs = inject_set_regs(in->pid, back, len);
	inject_ptrace(PT_SETOPTIONS, in->pid, 0, (void *)in->after);
	masked = inject_set_mask(in->pid, mask);
	if (was_stopped)
		raw_syscall(SYS_kill, in->pid, SIG_STOP, 0, 0, 0, 0);
	return ret < 0 ? ret : regs < 0 ? regs : masked;
}

long inject_call(struct injection *in)
{
	static unsigned char saved[INJECT_REGS_MAX];
	size_t len = sizeof(saved);
	unsigned long mask = 0;
	long ret;

	in->child = 0;
	if (in->room > INJECT_REGS_MAX || in->len > in->room)
		return -EINVAL;
	if (entered.pid == in->pid)
		return inject_call_and_restore(in, entered.home, entered.len, ~0ul);
	if ((ret = inject_get_regs(in->pid, saved, &len)) < 0 ||
	    (ret = inject_ptrace(PT_GETSIGMASK, in->pid, sizeof(mask), &mask)) < 0)
		return ret;
	return inject_call_and_restore(in, saved, len, mask);
}
