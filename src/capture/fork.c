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

/* Sets the registers of a stopped task so that it calls exit_group() as soon as it runs. */
static int fork_point_at_exit(const struct helper_task *m, pid_t pid)
{
	const long args[6] = { 0 };
	struct tracer_regs r;

	if (tracer_get_regs(m->tracer, pid, &r))
		return -1;
	arch_prepare_syscall(&r, m->path.call, SYS_exit_group, args);
	return tracer_set_regs(m->tracer, pid, &r);
}

/* While the child is handed over, it is stopped and has no tracer. If we die then, the helper task dies with its
 * tracer, and its death continues the child by SIGCONT (PR_SET_PDEATHSIG), which then exits. Later the child has a
 * tracer again, and PTRACE_O_EXITKILL ends it. */
static int fork_make_child(const struct helper_task *m, pid_t *child, struct err *err)
{
	const long args[6] = { CLONE_FS | CLONE_FILES }, wake[6] = { PR_SET_PDEATHSIG, SIGCONT };

	if (helper_task_call(m, m->pid, "fork", SYS_clone, args, NULL, child, err) ||
	    helper_task_call(m, *child, "prctl", SYS_prctl, wake, NULL, NULL, err))
		return -1;
	return fork_point_at_exit(m, *child) ? err_sys(err, errno, "cannot set the registers of the child") : 0;
}

/* criu detaches from the child and we attach to it. SIGSTOP keeps it stopped in between. */
static int fork_take_over_child(const struct helper_task *m, pid_t *inner, struct mem_fork *f, struct err *err)
{
	pid_t helper = helper_task_host(m), child = helper ? helper_task_find_child(helper, *inner) : 0;
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

/* The OOM killer takes the child first. */
static void fork_raise_oom_score(pid_t pid)
{
	cleanup_close int fd = open_proc(pid, "oom_score_adj", O_WRONLY);

	if (fd >= 0 && write_all(fd, "1000", 4))
		errno = 0;
}

int mem_fork_make(int tracer, pid_t inner, pid_t host, struct mem_fork *f, struct err *err)
{
	struct helper_task m;
	pid_t child = 0;
	int rc, status;

	*f = (struct mem_fork){ 0, -1 };
	rc = helper_task_make(&m, tracer, inner, host, err) || fork_make_child(&m, &child, err) ||
			     fork_take_over_child(&m, &child, f, err)
		     ? -1
		     : 0;
	if (child && tracer_kill(tracer, child, SIGKILL) == 0)
		while (tracer_wait(tracer, child, &status) == 0 && WIFSTOPPED(status))
			;
	if (helper_task_end(&m, rc ? NULL : err))
		rc = -1;
	if (rc) {
		mem_fork_end(f);
		return err_wrap(err, "process %d cannot be forked", inner);
	}
	fork_raise_oom_score(f->host);
	return 0;
}

void mem_fork_end(struct mem_fork *f)
{
	int status;

	if (!f->host)
		return;
	pidfd_send_signal(f->pidfd, SIGKILL, NULL, 0);
	/* Fails at once with ECHILD if this thread does not trace the child; then another process reaps it. */
	while (waitpid(f->host, &status, __WALL) == f->host && WIFSTOPPED(status))
		;
	close(f->pidfd);
	*f = (struct mem_fork){ 0, -1 };
}

/* ---- what the child has ---------------------------------------------------- */

static bool fork_page_present(int pagemap, uint64_t addr)
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

		/* A range lies within one mapping of the process, and MADV_WIPEONFORK empties whole mappings: it is
		 * enough to look at the first and the last page. */
		all = v && v->start <= ranges[i].addr && v->end >= end && fork_page_present(pagemap, ranges[i].addr) &&
		      fork_page_present(pagemap, end - MEM_PAGE);
	}
	vmas_free(&m);
	return all;
}
