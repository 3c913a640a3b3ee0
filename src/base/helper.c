#include "base/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

static _Noreturn void helper_exec(const struct helper *h, char *const *envp, int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0)
		_exit(127);
	syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
	if (h->keep >= 0)
		fcntl(h->keep, F_SETFD, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(h->argv[0], h->argv, envp);
	_exit(127);
}

static char *helper_read(int fd, const struct helper *h)
{
	char *text = xmalloc(h->answer_max + 1);
	size_t len = 0;

	while (len < h->answer_max) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		const int64_t left = h->until - now_us();
		int n = left > 0 ? poll(&p, 1, (int)(left / 1000) + 1) : 0;
		ssize_t got = n > 0 ? read(fd, text + len, h->answer_max - len) : 0;

		if ((n < 0 || got < 0) && errno == EINTR)
			continue;
		if (n <= 0 || got <= 0)
			break;
		len += (size_t)got;
	}
	text[len] = '\0';
	return text;
}

char *helper_run(const struct helper *h, int *status, struct err *err)
{
	const char *conf = getenv("SLURM_CONF");
	cleanup_free char *conf_variable = conf ? xasprintf("SLURM_CONF=%s", conf) : NULL;
	cleanup_free char *more = h->variable ? xstrdup(h->variable) : NULL;
	char *envp[4] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" } };
	cleanup_close int out = -1;
	char *answer = NULL;
	int ends[2], n = 1;
	pid_t pid;

	if (conf_variable)
		envp[n++] = conf_variable;
	if (more)
		envp[n++] = more;
	if (pipe2(ends, O_CLOEXEC)) {
		err_sys(err, errno, "cannot make a pipe");
		return NULL;
	}
	out = ends[0];
	pid = fork();
	if (pid == 0)
		helper_exec(h, envp, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		err_sys(err, errno, "cannot fork");
		return NULL;
	}
	answer = helper_read(out, h);
	kill(pid, SIGKILL); /* no effect on the answer that has been read */
	*status = -1;
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return answer;
}
