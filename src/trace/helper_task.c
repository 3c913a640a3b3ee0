#include "trace/helper_task.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"
#include "trace/arch.h"
#include "trace/call_site.h"
#include "trace/tracer.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

#define OPTIONS      (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_SUSPEND_SECCOMP)
#define OPTIONS_OURS (OPTIONS | PTRACE_O_EXITKILL)

static int helper_task_inject(const struct helper_task *t, pid_t pid, const struct tracer_options *o, const char *name,
			      long nr, const long args[6], long *result, pid_t *child, struct err *err)
{
	struct tracer_regs r;
	pid_t none;

	if (tracer_get_regs(t->tracer, pid, &r))
		return err_sys(err, errno, "%s: cannot read its registers", name);
	arch_prepare_syscall(&r, t->path.call, nr, args);
	if (tracer_inject(t->tracer, pid, &r, o, child ? child : &none))
		return err_sys(err, errno, "%s: it did not make a system call", name);
	*result = arch_syscall_result(&r);
	return *result < 0 ? err_sys(err, (int)-*result, "%s", name) : 0;
}

/* Makes a call in the owner. A task that the call makes needs EXITKILL from its start if there is no return path. */
static int helper_task_call_owner(struct helper_task *t, const char *name, long nr, const long args[6], pid_t *child,
				  struct err *err)
{
	const struct tracer_options o = { child && !t->entered ? OPTIONS_OURS : OPTIONS, 0, OPTIONS_OURS };
	long result;

	return helper_task_inject(t, t->inner, &o, name, nr, args, &result, child, err);
}

int helper_task_call(const struct helper_task *t, pid_t pid, const char *name, long nr, const long args[6],
		     long *result, pid_t *child, struct err *err)
{
	const struct tracer_options o = { OPTIONS_OURS, OPTIONS_OURS, OPTIONS_OURS };
	long none;

	return helper_task_inject(t, pid, &o, name, nr, args, result ? result : &none, child, err);
}

static int helper_task_enter_owner(struct helper_task *t, struct err *err)
{
	struct tracer_regs r;

	if (!arch_can_inject())
		return err_set(err, ENOTSUP, "system calls in a process are not known on this kind of machine");
	if (tracer_get_regs(t->tracer, t->inner, &r))
		return err_sys(err, errno, "cannot read its registers");
	if (!arch_is_native(&r))
		return err_set(err, ENOTSUP, "it is no program of this machine's own kind");
	if (call_site_find(t->host, arch_stack_pointer(&r), &t->path, err))
		return -1;
	t->entered = t->path.restore && tracer_enter(t->tracer, t->inner, &t->path) == 0;
	return 0;
}

int helper_task_enter(struct helper_task *t, int tracer, pid_t inner, pid_t host, struct err *err)
{
	*t = (struct helper_task){ .tracer = tracer, .inner = inner, .host = host };
	return helper_task_enter_owner(t, err);
}

int helper_task_call_thread(const struct helper_task *t, const char *name, long nr, const long args[6], long *result,
			    struct err *err)
{
	const struct tracer_options o = { t->entered ? OPTIONS : OPTIONS_OURS, 0, 0 };

	*result = 0;
	return helper_task_inject(t, t->inner, &o, name, nr, args, result, NULL, err) && *result >= 0 ? -1 : 0;
}

int helper_task_make(struct helper_task *t, int tracer, pid_t inner, pid_t host, struct err *err)
{
	const long all_fds[6] = { 0, ~0U, CLOSE_RANGE_UNSHARE };
	long args[6] = { CLONE_VM | CLONE_FS | CLONE_FILES };

	if (helper_task_enter(t, tracer, inner, host, err))
		return -1;
	if (t->entered) {
		args[0] |= CLONE_PARENT_SETTID;
		args[1] = (long)t->path.child_stack;
		args[2] = (long)t->path.child_pid;
	}
	if (helper_task_call_owner(t, "clone", SYS_clone, args, &t->pid, err))
		return -1;
	return helper_task_call(t, t->pid, "close_range", SYS_close_range, all_fds, NULL, NULL, err);
}

int helper_task_end(struct helper_task *t, struct err *err)
{
	/* wait4() needs the pid in the namespace of the owner. criu is in the pod, as the owner is. */
	const long args[6] = { t->tracer == TRACER_SELF ? proc_number(t->pid, "NSpid", 0) : t->pid, 0, __WALL, 0 };
	int status, rc = 0;

	if (t->pid && tracer_kill(t->tracer, t->pid, SIGKILL) == 0) {
		while (tracer_wait(t->tracer, t->pid, &status) == 0 && WIFSTOPPED(status))
			;
		rc = helper_task_call_owner(t, "wait4", SYS_wait4, args, NULL, err);
	}
	t->pid = 0;
	if (t->entered && tracer_leave(t->tracer, t->inner))
		rc = err_sys(err, errno, "cannot put its registers back");
	t->entered = false;
	return rc;
}

pid_t helper_task_find_child(pid_t parent, pid_t inner)
{
	cleanup_free char *list = NULL;
	char path[64], *p, *end;
	long pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	if (read_file_at(AT_FDCWD, path, 16 << 20, &list) <= 0)
		return 0;
	for (p = list; (pid = strtol(p, &end, 10)) > 0 && end != p; p = end)
		if (proc_number((pid_t)pid, "NSpid", 0) == inner)
			return (pid_t)pid;
	return 0;
}

pid_t helper_task_host(const struct helper_task *t)
{
	return t->pid ? helper_task_find_child(t->host, t->pid) : 0;
}
