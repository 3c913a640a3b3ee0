/* RPCs to slurmctld from slurmstepd and from T. They are made by fsched-slurm, because calls of libslurm have no time
 * limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/util.h"
#include "slurm/plugin/spank_fsched.h"

#define ANSWER_MAX 65536
#define GRACE_MS   5000 /* fsched-slurm keeps its timeout itself, unless it hangs in a file system */

/* Runs in a forked child of a process with threads, so it makes only system calls. Descriptor 2 is the job's output, so
 * it is replaced. */
static _Noreturn void exec_fsched_slurm(char *const *argv, char *const *envp, int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 0);
	dup2(out, 1);
	dup2(null, 2);
	syscall(SYS_close_range, 3U, ~0U, 0);
	execve(argv[0], argv, envp);
	_exit(127);
}

/* Reads until the child closes its output or the time is over. */
static void read_slurm_answer(int fd, int64_t until, char *text, size_t size)
{
	size_t len = 0;

	while (len < size - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until - now_us();
		int n = left > 0 ? poll(&p, 1, (int)(left / 1000) + 1) : 0;
		ssize_t got = n > 0 ? read(fd, text + len, size - 1 - len) : 0;

		if ((n < 0 || got < 0) && errno == EINTR)
			continue;
		if (n <= 0 || got <= 0)
			break;
		len += (size_t)got;
	}
	text[len] = '\0';
}

json_t *ask_slurm(const struct slurm_question *q, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-slurm", q->libexec);
	cleanup_free char *job = xasprintf("%u", q->job_id);
	cleanup_free char *seconds = xasprintf("%d", q->timeout_s);
	cleanup_free char *conf = getenv("SLURM_CONF") ? xasprintf("SLURM_CONF=%s", getenv("SLURM_CONF")) : NULL;
	cleanup_free char *host = xasprintf("FSCHED_BATCH_HOST=%s", q->node);
	cleanup_free char *op = xstrdup(q->op), *arg = xstrdup(q->arg), *text = xmalloc(ANSWER_MAX);
	char *argv[] = { path, (char[]){ "--timeout" }, seconds, op, job, arg, NULL };
	char *envp[] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, host, conf, NULL };
	const int64_t until = now_us() + q->timeout_s * INT64_C(1000000) + GRACE_MS * INT64_C(1000);
	cleanup_close int out = -1;
	int ends[2], status = -1;
	const char *error;
	json_t *answer;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC)) {
		err_sys(err, errno, "cannot make a pipe");
		return NULL;
	}
	out = ends[0];
	pid = fork();
	if (pid == 0)
		exec_fsched_slurm(argv, envp, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		err_sys(err, errno, "cannot fork");
		return NULL;
	}
	read_slurm_answer(out, until, text, ANSWER_MAX);
	kill(pid, SIGKILL); /* no effect on the answer that has been read */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	answer = json_loads(text, 0, NULL);
	error = json_string_value(json_object_get(answer, "error"));
	if (json_is_object(answer) && !error)
		return answer;
	if (error)
		err_set(err, 0, "%s", error);
	else
		err_set(err, 0, "%s gave no answer (wait status %d): is fsched installed completely on node %s?", path,
			status, q->node);
	json_decref(answer);
	return NULL;
}
