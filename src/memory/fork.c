#include "memory/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/util.h"
#include "memory/arch.h"
#include "memory/pagemap.h"
#include "memory/site.h"
#include "memory/tracer.h"
#include "memory/vmas.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

#define OPTIONS       (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_SUSPEND_SECCOMP)
#define OPTIONS_OURS  (OPTIONS | PTRACE_O_EXITKILL)

struct target {
	int   hand;
	pid_t inner, host;
	uint64_t pc;          /* of an instruction that makes a system call */
	pid_t middle, child;  /* inner pids, 0 = not there */
};

/* ---- system calls in the process, the middle task and the child ---------- */

/* Result of the call, as the kernel gives it; *child is filled if it made one. -1 with err if it could not be made. */
static int inject(const struct target *t, pid_t pid, bool ours, long nr, const long args[6], pid_t *child, long *result, struct err *err)
{
	/* A child that is born needs EXITKILL from its first moment, so its parent has it for that moment too. */
	const struct tracer_options o = { ours || child ? OPTIONS_OURS : OPTIONS, ours ? OPTIONS_OURS : 0, OPTIONS_OURS };
	struct tracer_regs r;
	pid_t none;

	if (tracer_get_regs(t->hand, pid, &r))
		return err_sys(err, errno, "cannot read its registers");
	if (!arch_is_native(&r))
		return err_set(err, ENOTSUP, "it is no program of this machine's own kind");
	arch_prepare_syscall(&r, t->pc, nr, args);
	if (tracer_inject(t->hand, pid, &r, &o, child ? child : &none))
		return err_sys(err, errno, "it did not make a system call");
	*result = arch_syscall_result(&r);
	return 0;
}

static int call(const struct target *t, pid_t pid, bool ours, const char *name, long nr, const long args[6], pid_t *child, struct err *err)
{
	long result = 0;

	if (inject(t, pid, ours, nr, args, child, &result, err))
		return err_wrap(err, "%s", name);
	if (result < 0)
		return err_sys(err, (int)-result, "%s", name);
	return 0;
}

/* Sets a task on a course to exit(), which it takes when it is let go. */
static int point_at_exit(const struct target *t, pid_t pid)
{
	const long args[6] = { 0 };
	struct tracer_regs r;

	if (tracer_get_regs(t->hand, pid, &r))
		return -1;
	arch_prepare_syscall(&r, t->pc, SYS_exit_group, args);
	return tracer_set_regs(t->hand, pid, &r);
}

/* ---- steps --------------------------------------------------------------- */

static int make_middle(struct target *t, struct err *err)
{
	const long args[6] = { CLONE_VM | CLONE_FS | CLONE_FILES };

	return call(t, t->inner, false, "clone", SYS_clone, args, &t->middle, err);
}

static int make_child(struct target *t, struct err *err)
{
	const long all_fds[6] = { 0, ~0U, CLOSE_RANGE_UNSHARE }, args[6] = { CLONE_FS | CLONE_FILES };

	if (call(t, t->middle, true, "close_range", SYS_close_range, all_fds, NULL, err) ||
	    call(t, t->middle, true, "fork", SYS_clone, args, &t->child, err))
		return -1;
	return point_at_exit(t, t->child) ? err_sys(err, errno, "cannot set the registers of the child") : 0;
}

static int last_pid_of(pid_t host)
{
	cleanup_free char *status = NULL;
	char path[64];
	const char *p;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", host);
	if (read_file_at(AT_FDCWD, path, 65536, &status) <= 0)
		return 0;
	p = strstr(status, "\nNSpid:");
	if (!p)
		return 0;
	for (p += strlen("\nNSpid:"); *p == '\t'; p += strcspn(p, "\t\n"))
		pid = atoi(++p);
	return pid;
}

/* The pid here of the child of a process here that is inner in the pod. */
static pid_t find_child(pid_t parent, pid_t inner)
{
	cleanup_free char *list = NULL;
	char path[64], *p, *end;
	long pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	if (read_file_at(AT_FDCWD, path, 16 << 20, &list) <= 0)
		return 0;
	for (p = list; (pid = strtol(p, &end, 10)) > 0 && end != p; p = end)
		if (last_pid_of((pid_t)pid) == inner)
			return (pid_t)pid;
	return 0;
}

/* From criu's hands into ours: stopped by a signal in between. */
static int take_child(struct target *t, struct mem_fork *f, struct err *err)
{
	pid_t middle = find_child(t->host, t->middle), child = middle ? find_child(middle, t->child) : 0;
	int status, fd;

	if (!child)
		return err_set(err, ESRCH, "the child cannot be found in /proc");
	fd = pidfd_open(child, 0);
	if (fd < 0)
		return err_sys(err, errno, "cannot open the child");
	f->host = child;
	f->pidfd = fd;
	if (tracer_kill(t->hand, t->child, SIGSTOP) || tracer_detach(t->hand, t->child))
		return err_sys(err, errno, "criu cannot hand the child over");
	t->child = 0;
	if (ptrace(PTRACE_SEIZE, child, NULL, (void *)PTRACE_O_EXITKILL) || ptrace(PTRACE_INTERRUPT, child, NULL, NULL) ||
	    waitpid(child, &status, __WALL) != child || !WIFSTOPPED(status))
		return err_sys(err, errno, "cannot take the child over");
	return 0;
}

/* The first thing to go when memory is short. */
static void offer_to_oom(pid_t pid)
{
	cleanup_close int fd = open_proc(pid, "oom_score_adj", O_WRONLY);

	if (fd >= 0 && write_all(fd, "1000", 4))
		errno = 0;
}

static void end_task(const struct target *t, pid_t pid)
{
	int status;

	if (tracer_kill(t->hand, pid, SIGKILL))
		return;
	while (tracer_wait(t->hand, pid, &status) == 0 && WIFSTOPPED(status))
		;
}

/* Nothing of ours remains with the process but a child that is complete. */
static int end_middle(struct target *t, struct err *err)
{
	const long args[6] = { t->middle, 0, __WALL, 0 };
	pid_t middle = t->middle;

	if (!middle)
		return 0;
	t->middle = 0;
	end_task(t, middle);
	return call(t, t->inner, false, "wait4", SYS_wait4, args, NULL, err);
}

int mem_fork_make(int hand, pid_t inner, pid_t host, struct mem_fork *f, struct err *err)
{
	struct target t = { .hand = hand, .inner = inner, .host = host };
	int rc;

	*f = (struct mem_fork){ 0, -1 };
	if (!arch_can_inject())
		return err_set(err, ENOTSUP, "forks are not known on this kind of machine");
	t.pc = mem_site_find(host, err);
	if (!t.pc)
		return -1;
	rc = make_middle(&t, err) || make_child(&t, err) || take_child(&t, f, err) ? -1 : 0;
	if (t.child)
		end_task(&t, t.child);
	if (end_middle(&t, rc ? NULL : err) && !rc)
		rc = -1;
	if (rc) {
		mem_fork_end(f);
		return err_wrap(err, "process %d cannot be forked", inner);
	}
	offer_to_oom(f->host);
	return 0;
}

void mem_fork_end(struct mem_fork *f)
{
	int status;

	if (!f->host)
		return;
	pidfd_send_signal(f->pidfd, SIGKILL, NULL, 0);
	/* Fails at once with ECHILD if it is not traced here; then it is not ours to reap. */
	while (waitpid(f->host, &status, __WALL) == f->host && WIFSTOPPED(status))
		;
	close(f->pidfd);
	*f = (struct mem_fork){ 0, -1 };
}

/* ---- what the child has ---------------------------------------------------- */

static bool page_present(int pagemap, uint64_t addr)
{
	uint64_t entry = 0;

	return pread(pagemap, &entry, sizeof(entry), (off_t)(addr / MEM_PAGE * sizeof(entry))) == sizeof(entry) && (entry & MEM_ENTRY_PRESENT);
}

bool mem_fork_holds(const struct mem_fork *f, const struct mem_range *ranges, size_t n)
{
	cleanup_close int pagemap = open_proc(f->host, "pagemap", O_RDONLY);
	struct vmas m;
	bool all = true;

	if (pagemap < 0 || vmas_read(f->host, &m, NULL))
		return false;
	for (size_t i = 0; i < n && all; i++) {
		const struct vma *v = vmas_find(&m, ranges[i].addr);
		uint64_t end = ranges[i].addr + ranges[i].npages * MEM_PAGE;

		/* A range lies in one mapping of the process; what is wiped is wiped for a whole mapping. */
		all = v && v->start <= ranges[i].addr && v->end >= end && page_present(pagemap, ranges[i].addr) &&
		      page_present(pagemap, end - MEM_PAGE);
	}
	vmas_free(&m);
	return all;
}
