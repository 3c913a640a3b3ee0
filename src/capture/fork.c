#include "capture/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/util.h"
#include "trace/arch.h"
#include "trace/helper_task.h"
#include "capture/pagemap.h"
#include "trace/tracer.h"
#include "base/vmas.h"

/* Sets a task on a course to exit(), which it takes when it is let go. */
static int point_at_exit(const struct helper_task *m, pid_t pid)
{
	const long args[6] = { 0 };
	struct tracer_regs r;

	if (tracer_get_regs(m->tracer, pid, &r))
		return -1;
	arch_prepare_syscall(&r, m->path.call, SYS_exit_group, args);
	return tracer_set_regs(m->tracer, pid, &r);
}

/* While the child is handed over, stopped and without a tracer, the death of the helper task, which has one, lets it go
 * to its exit. Later it has a tracer again, and that is all that counts. */
static int make_child(const struct helper_task *m, pid_t *child, struct err *err)
{
	const long args[6] = { CLONE_FS | CLONE_FILES }, wake[6] = { PR_SET_PDEATHSIG, SIGCONT };

	if (helper_task_call(m, m->pid, "fork", SYS_clone, args, NULL, child, err) ||
	    helper_task_call(m, *child, "prctl", SYS_prctl, wake, NULL, NULL, err))
		return -1;
	return point_at_exit(m, *child) ? err_sys(err, errno, "cannot set the registers of the child") : 0;
}

/* From criu's hands into ours: stopped by a signal in between. */
static int take_child(const struct helper_task *m, pid_t *inner, struct mem_fork *f, struct err *err)
{
	pid_t middle = helper_task_host(m), child = middle ? helper_task_find_child(middle, *inner) : 0;
	int status, fd;

	if (!child)
		return err_set(err, ESRCH, "the child cannot be found in /proc");
	fd = pidfd_open(child, 0);
	if (fd < 0)
		return err_sys(err, errno, "cannot open the child");
	f->host = child;
	f->pidfd = fd;
	if (tracer_kill(m->tracer, *inner, SIGSTOP) || tracer_detach(m->tracer, *inner))
		return err_sys(err, errno, "criu cannot hand the child over");
	*inner = 0;
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

int mem_fork_make(int hand, pid_t inner, pid_t host, struct mem_fork *f, struct err *err)
{
	struct helper_task m;
	pid_t child = 0;
	int rc, status;

	*f = (struct mem_fork){ 0, -1 };
	rc = helper_task_make(&m, hand, inner, host, err) || make_child(&m, &child, err) || take_child(&m, &child, f, err)
		     ? -1
		     : 0;
	if (child && tracer_kill(hand, child, SIGKILL) == 0)
		while (tracer_wait(hand, child, &status) == 0 && WIFSTOPPED(status))
			;
	if (helper_task_end(&m, rc ? NULL : err))
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

	return pread(pagemap, &entry, sizeof(entry), (off_t)(addr / MEM_PAGE * sizeof(entry))) == sizeof(entry) &&
	       (entry & MEM_ENTRY_PRESENT);
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
