/* The process that outlives a proof and removes what it leaves on the node, whatever becomes of it. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/util.h"
#include "pod/alone.h"
#include "pod/apart.h"
#include "pod/pod.h"

#define PREFIX        "prove-" /* of a pod's directory: prove-JOB-EPOCH-PID, with the pid of who has started the worker */
#define GUARD_NICE    19
#define IDLE_IO       (3 << 13) /* IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0) */
#define IO_OF_PROCESS 1         /* IOPRIO_WHO_PROCESS */

/* A proof that nobody has asked for is no part of the job's step. */
static void guard_give_way(void)
{
	pod_leave_cgroups();
	setpriority(PRIO_PROCESS, 0, GUARD_NICE);
	syscall(SYS_ioprio_set, IO_OF_PROCESS, 0, IDLE_IO);
}

static void guard_remove(const char *dir)
{
	alone_cgroup_cleanup(strrchr(dir, '/') + 1);
	apart_cleanup(dir);
	pod_cleanup(dir);
}

/* What proofs have left whose guard was killed. */
static void guard_remove_stale(const char *own)
{
	cleanup_free char *parent = xstrdup(own);
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;

	*strrchr(parent, '/') = '\0';
	d = opendir(parent);
	while (d && dir_next(d, &e) > 0) {
		cleanup_free char *dir = xasprintf("%s/%s", parent, e->d_name);
		int job, epoch, pid, n = 0;

		if (sscanf(e->d_name, PREFIX "%d-%d-%d%n", &job, &epoch, &pid, &n) == 3 && !e->d_name[n] && pid > 0 &&
		    kill(pid, 0) && errno == ESRCH)
			guard_remove(dir);
	}
}

static void guard_remove_images(const char *job_dir)
{
	struct store s;

	if (store_open_path(&s, job_dir, false, NULL))
		return;
	remove_tree_at(s.epochsfd, STORE_PROOF_DIR);
	store_close(&s);
}

/* Waits for the end of the proof. Who has asked for it gives it up by closing our standard input. */
static int guard_await(pid_t pid)
{
	struct pollfd p[2] = { { STDIN_FILENO, POLLIN, 0 }, { pidfd_open(pid, 0), POLLIN, 0 } };
	char c;
	int status;

	while (p[1].fd >= 0 && !p[1].revents && poll(p, 2, -1) >= 0)
		if (p[0].revents && read(STDIN_FILENO, &c, 1) <= 0) {
			kill(pid, SIGKILL);
			break;
		}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (p[1].fd >= 0)
		close(p[1].fd);
	return status;
}

int prove_guard(const struct request *q, struct err *err)
{
	const pid_t guard = getpid();
	pid_t pid;
	char text[80];
	int status;

	if (q->low)
		guard_give_way();
	guard_remove_stale(q->pod_dir);
	/* The end of the file tells of the end of who has asked. */
	prctl(PR_SET_PDEATHSIG, 0);
	pid = fork();
	if (pid < 0)
		return err_sys(err, errno, "cannot fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != guard)
			_exit(1);
		return 0;
	}
	status = guard_await(pid);
	/* The result has been sent, unless the process was killed. */
	snprintf(text, sizeof(text), "the proof was killed by signal %d", WTERMSIG(status));
	if (WIFSIGNALED(status))
		event_failed(&(const struct worker){ 0 }, text, true, false);
	guard_remove(q->pod_dir);
	guard_remove_images(q->job_dir);
	_exit(WIFSIGNALED(status) ? 1 : WEXITSTATUS(status));
}
