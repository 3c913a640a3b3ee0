#include "agent/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"

void proc_ignore_job_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++) {
		switch (sig) {
		case SIGCHLD:
		case SIGCONT:
		case SIGSEGV:
		case SIGBUS:
		case SIGFPE:
		case SIGILL:
		case SIGABRT:
		case SIGTRAP:
		case SIGSYS: signal(sig, SIG_DFL); break;
		default: /* for SIGKILL, SIGSTOP and glibc's own this fails, as it should */ signal(sig, SIG_IGN);
		}
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void proc_die_with(pid_t agent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != agent)
		_exit(127);
}

static void proc_close_all_but(int a, int b)
{
	unsigned from = 3;
	int keep[2] = { a < b ? a : b, a < b ? b : a };

	for (int i = 0; i < 2; i++) {
		if (keep[i] < (int)from)
			continue;
		if ((unsigned)keep[i] > from)
			close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	close_range(from, ~0U, 0);
}

void proc_child_setup(pid_t agent, int keep_a, int keep_b)
{
	proc_die_with(agent);
	proc_close_all_but(keep_a, keep_b);
}

static _Noreturn void proc_run_child(const struct proc_spec *s, pid_t agent, int in, int out)
{
	proc_die_with(agent);
	if (!s->argv) {
		if (in >= 0 && dup2(in, 0) < 0)
			_exit(127);
		if (!s->keep_all)
			proc_child_setup(agent, out, s->keep_fd);
		proc_ignore_job_signals();
		_exit(s->main(s->main_arg, out));
	}
	proc_ignore_job_signals();
	if ((in >= 0 && dup2(in, 0) < 0) || dup2(out, 1) < 0)
		_exit(127);
	if (s->keep_fd >= 0)
		fcntl(s->keep_fd, F_SETFD, 0);
	execv(s->argv[0], s->argv);
	_exit(127);
}

static void proc_finish(struct proc *p, int status)
{
	loop_remove(p->loop, &p->out);
	loop_timer_clear(p->loop, &p->deadline);
	if (p->child.pid)
		loop_unwatch(p->loop, &p->child);
	p->pid = 0;
	free(p->lines.buf);
	p->lines = (struct lines){ 0 };
	if (p->on_end)
		p->on_end(p->arg, status);
}

static void proc_close_fds(struct proc *p)
{
	int fd = p->out.fd;

	loop_remove(p->loop, &p->out);
	if (fd >= 0)
		close(fd);
	if (p->in >= 0)
		close(p->in);
	p->in = -1;
}

/* Returns false if on_line has forgotten the process. Then *p may already be another one. */
static bool proc_pass_line(void *arg, char *line)
{
	struct proc *p = arg;
	const pid_t pid = p->pid;

	if (p->on_line)
		p->on_line(p->arg, line);
	return p->pid == pid;
}

/* Passes complete lines to on_line. Returns false when there is nothing more to read now or at all. */
static bool proc_read_some(struct proc *p)
{
	ssize_t n = read(p->out.fd, p->lines.buf + p->lines.len, LINES_MAX - p->lines.len);

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			int fd = p->out.fd;

			loop_remove(p->loop, &p->out);
			close(fd);
		}
		return false;
	}
	switch (lines_add(&p->lines, (size_t)n, proc_pass_line, p)) {
	case LINES_MORE: break;
	case LINES_STOPPED: return false;
	case LINES_TOO_LONG:
		log_error("process %d wrote a line of more than %d bytes; killed", (int)p->pid, LINES_MAX);
		proc_kill(p);
	}
	return true;
}

static void proc_on_readable(void *arg)
{
	proc_read_some(arg);
}

static void proc_on_reaped(void *arg, int status)
{
	struct proc *p = arg;
	const pid_t pid = p->pid;

	/* Reads what the child wrote before it ended. There may be no end of file, because a grandchild may keep the
	 * pipe open for the rest of the job. */
	while (p->pid == pid && p->out.fd >= 0 && proc_read_some(p))
		;
	if (!pid || p->pid != pid)
		return;
	proc_close_fds(p);
	proc_finish(p, status);
}

static void proc_on_deadline(void *arg)
{
	struct proc *p = arg;

	p->timed_out = true;
	proc_kill(p);
}

void proc_set_timeout(struct proc *p, int timeout_s)
{
	if (timeout_s > 0 && p->pid)
		loop_timer_set(p->loop, &p->deadline, now_us() + timeout_s * INT64_C(1000000), proc_on_deadline, p);
	else
		loop_timer_clear(p->loop, &p->deadline);
}

int proc_start(struct loop *l, struct proc *p, const struct proc_spec *s, struct err *err)
{
	int out[2];
	/* Its stdin is a socket and no pipe, because a write to a dead child must not raise SIGPIPE, and must not
	 * block. */
	int in[2] = { -1, -1 };
	pid_t agent = getpid();

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	if ((s->request || s->talk) && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0) {
		close(out[0]);
		close(out[1]);
		return err_sys(err, errno, "cannot make a socket pair");
	}
	pid_t pid = fork();
	if (pid == 0)
		proc_run_child(s, agent, in[1], out[1]);
	close(out[1]);
	if (in[1] >= 0)
		close(in[1]);
	if (pid < 0) {
		int num = errno;

		close(out[0]);
		if (in[0] >= 0)
			close(in[0]);
		return err_sys(err, num, "cannot start %s", s->argv ? s->argv[0] : "a helper process");
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	*p = (struct proc){ .loop = l,
			    .pid = pid,
			    .in = in[0],
			    .lines.buf = xmalloc(LINES_MAX),
			    .on_line = s->on_line,
			    .on_end = s->on_end,
			    .arg = s->arg };
	loop_add(l, &p->out, out[0], proc_on_readable, p);
	loop_watch(l, &p->child, pid, proc_on_reaped, p);
	proc_set_timeout(p, s->timeout_s);
	if (s->request && proc_send(p, s->request) < 0)
		log_warn("cannot send its request to process %d: %s", (int)pid, strerror(errno));
	return 0;
}

void proc_close_stdin(struct proc *p)
{
	cleanup_closep(&p->in);
	p->in = -1;
}

int proc_send(struct proc *p, const char *line)
{
	size_t len = strlen(line);
	cleanup_free char *text = xmalloc(len + 1);

	if (p->in < 0)
		return -1;
	memcpy(text, line, len);
	text[len] = '\n';
	/* A request is far smaller than the socket's buffer: a child that leaves no room for it has stopped reading. */
	return send(p->in, text, len + 1, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(len + 1) ? 0 : -1;
}

void proc_kill(struct proc *p)
{
	if (p->pid)
		kill(p->pid, SIGKILL);
}

void proc_forget(struct proc *p)
{
	if (!p->pid)
		return;
	kill(p->pid, SIGKILL);
	p->on_end = NULL;
	p->on_line = NULL;
	proc_close_fds(p);
	proc_finish(p, 0);
}
