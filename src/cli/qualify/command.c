#include "cli/qualify/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"

#define COMMAND_TICK_MS 100
#define COMMAND_LAST_US 5000000 /* from SIGTERM to SIGKILL */

struct command_pipe {
	int fd; /* -1 = its end was reached */
	char *text;
	size_t len;
};

static _Noreturn void command_become(const struct command *c, int out, int err)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	setpgid(0, 0);
	if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(c->argv[0], c->argv);
	dprintf(2, "cannot run %s: %s\n", c->argv[0], strerror(errno));
	_exit(127);
}

/* Keeps the first COMMAND_OUTPUT bytes and drops the rest. */
static void command_read(struct command_pipe *p)
{
	char drop[4096];
	const size_t room = COMMAND_OUTPUT - p->len;
	ssize_t n = read(p->fd, room ? p->text + p->len : drop, room ? room : sizeof(drop));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(p->fd);
		p->fd = -1;
	} else if (room) {
		p->len += (size_t)n;
	}
}

static void command_wait_output(struct command_pipe p[2])
{
	struct pollfd polled[2] = { { .fd = p[0].fd, .events = POLLIN }, { .fd = p[1].fd, .events = POLLIN } };

	if (poll(polled, 2, COMMAND_TICK_MS) <= 0)
		return;
	for (int i = 0; i < 2; i++)
		if (polled[i].revents)
			command_read(&p[i]);
}

/* Whether it has ended. A child of it that keeps the output open is not waited for. */
static bool command_ended(pid_t pid, int *status)
{
	const pid_t got = waitpid(pid, status, WNOHANG);

	return got == pid || (got < 0 && errno == ECHILD);
}

static void command_watch(const struct command *c, pid_t pid, struct command_pipe p[2], struct command_result *r)
{
	int64_t kill_at = 0;
	int status = 0;

	while (!command_ended(pid, &status)) {
		command_wait_output(p);
		r->stopped |= c->stop && c->stop(c->arg);
		r->late |= now_us() > c->until;
		if ((r->stopped || r->late) && !kill_at) {
			kill(-pid, SIGTERM);
			kill_at = now_us() + COMMAND_LAST_US;
		} else if (kill_at && now_us() > kill_at) {
			kill(-pid, SIGKILL);
		}
	}
	for (int i = 0; i < 2; i++)
		while (p[i].fd >= 0) {
			struct pollfd polled = { .fd = p[i].fd, .events = POLLIN };

			if (poll(&polled, 1, 0) <= 0)
				break;
			command_read(&p[i]);
		}
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 255;
}

static int command_pipe(struct command_pipe *p, int *write_end)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	p->fd = ends[0];
	*write_end = ends[1];
	p->text = xmalloc(COMMAND_OUTPUT + 1);
	p->len = 0;
	return 0;
}

static char *command_finish(struct command_pipe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (!p->text)
		return xstrdup("");
	p->text[p->len] = '\0';
	return p->text;
}

int command_run(const struct command *c, struct command_result *r, struct err *err)
{
	struct command_pipe p[2] = { { .fd = -1 }, { .fd = -1 } };
	cleanup_close int out = -1, said = -1;
	pid_t pid = -1;

	memset(r, 0, sizeof(*r));
	if (command_pipe(&p[0], &out) == 0 && command_pipe(&p[1], &said) == 0) {
		pid = fork();
		if (pid == 0)
			command_become(c, out, said);
	}
	if (pid < 0)
		err_sys(err, errno, "cannot run %s", c->argv[0]);
	close(steal_fd(&out));
	close(steal_fd(&said));
	if (pid > 0) {
		setpgid(pid, pid); /* the child does it too; who comes first */
		command_watch(c, pid, p, r);
	}
	r->out = command_finish(&p[0]);
	r->err = command_finish(&p[1]);
	return pid < 0 ? -1 : 0;
}

void command_free(struct command_result *r)
{
	free(r->out);
	free(r->err);
	r->out = r->err = NULL;
}

char *command_said(const struct command_result *r, const char *prefix, char *buf, size_t len)
{
	cleanup_free char *text = xstrdup(r->err), *line = xcalloc(1, len);
	char *rest = text, *one;
	size_t used = 0;

	while ((one = strsep(&rest, "\n"))) {
		if (prefix && strncmp(one, prefix, strlen(prefix)) == 0)
			one += strlen(prefix);
		if (*one && used < len)
			used += (size_t)snprintf(line + used, len - used, "%s%s", used ? "; " : "", one);
	}
	printable(line, buf, len);
	if (r->late)
		snprintf(buf, len, "it did not answer in time");
	else if (!*buf)
		snprintf(buf, len, "exit status %d", r->status);
	return buf;
}
