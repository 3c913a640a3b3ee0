#include "cli/worker_call.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/progress.h"

enum {
	LINE_MAX_BYTES = 65536,
	MARGIN_S = 30 /* s after which a worker that does not keep CheckpointTimeout itself is killed */
};

struct call {
	const struct worker_call *o;
	pid_t pid;
	int in, out; /* our ends. in is a socket, so that writing to a dead worker raises no SIGPIPE */
	char *buf;
	size_t len;
	struct progress progress;
	json_t *result;
};

__attribute__((noreturn)) static void worker_call_exec(const char *path, const char *op, int in, int out, int keep_fd,
						       pid_t parent)
{
	char *const argv[] = { (char *)(uintptr_t)path, (char *)(uintptr_t)op, NULL };
	sigset_t none;

	/* The worker dies with this process: an interrupted checkpoint is given up. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(127);
	if (keep_fd >= 0)
		fcntl(keep_fd, F_SETFD, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(path, argv);
	_exit(127);
}

static int worker_call_start(struct call *c, const struct worker_call *o, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-worker", o->libexec);
	int in[2], out[2];
	pid_t me = getpid();

	if (access(path, X_OK))
		return err_sys(err, errno, "cannot run %s (is fsched installed completely?)", path);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in))
		return err_sys(err, errno, "cannot make a socket pair");
	if (pipe2(out, O_CLOEXEC)) {
		close(in[0]);
		close(in[1]);
		return err_sys(err, errno, "cannot make a pipe");
	}
	c->pid = fork();
	if (c->pid == 0)
		worker_call_exec(path, o->op, in[1], out[1], o->keep_fd, me);
	close(in[1]);
	close(out[1]);
	c->in = in[0];
	c->out = out[0];
	return c->pid < 0 ? err_sys(err, errno, "cannot fork") : 0;
}

static bool worker_call_stopped(const struct call *c)
{
	return c->o->stop && *c->o->stop;
}

static int worker_call_send(struct call *c, const char *text)
{
	size_t n = strlen(text), done = 0;
	ssize_t got;

	while (done < n) {
		got = send(c->in, text + done, n - done, MSG_NOSIGNAL);
		if (got < 0 && errno != EINTR)
			return -1;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static void worker_call_line(struct call *c, const char *line)
{
	json_t *o = json_loads(line, 0, NULL);
	const char *event = json_string_value(json_object_get(o, "event"));
	const char *name = json_string_value(json_object_get(o, "name"));
	const char *shown;

	if (event && !strcmp(event, "phase") && name) {
		shown = progress_phase(name);
		if (shown)
			progress_doing(&c->progress, shown);
	} else if (event && !strcmp(event, "held")) {
		worker_call_send(c, c->o->held && c->o->held(c->o->arg, o) ? "kill\n" : "resume\n");
	} else if (event && !strcmp(event, "result")) {
		json_decref(c->result);
		c->result = json_incref(o);
	}
	json_decref(o);
}

/* Reads and handles complete lines. False: end of file, or a line is too long. */
static bool worker_call_read(struct call *c)
{
	ssize_t n = read(c->out, c->buf + c->len, LINE_MAX_BYTES - c->len);
	char *nl;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	c->len += (size_t)n;
	while ((nl = memchr(c->buf, '\n', c->len))) {
		size_t used = (size_t)(nl - c->buf) + 1;

		*nl = '\0';
		worker_call_line(c, c->buf);
		memmove(c->buf, c->buf + used, c->len - used);
		c->len -= used;
	}
	return c->len < LINE_MAX_BYTES;
}

/* Handles events until the result has come or the worker has closed its output (0), or until the deadline (-1). */
static int worker_call_run(struct call *c, int64_t deadline)
{
	struct pollfd p = { c->out, POLLIN, 0 };
	int got;

	while (!c->result) {
		if (now_us() >= deadline || worker_call_stopped(c))
			return -1;
		got = poll(&p, 1, 200);
		progress_tick(&c->progress);
		if (got > 0 && !worker_call_read(c))
			return 0;
	}
	return 0;
}

static int worker_call_outcome(const struct call *c, int status, bool ended, struct err *err)
{
	const char *error = json_string_value(json_object_get(c->result, "error")), *op = c->o->op;

	if (json_is_true(json_object_get(c->result, "ok")))
		return 0;
	if (error)
		return err_set(err, 0, "%s", error);
	if (!ended && worker_call_stopped(c))
		return err_set(err, EINTR, "%s was interrupted", op);
	if (!ended)
		return err_set(err, ETIMEDOUT, "%s was given up after %u s (CheckpointTimeout)", op, c->o->timeout);
	if (WIFSIGNALED(status))
		return err_set(err, 0, "fsched-worker was killed by signal %d during %s", WTERMSIG(status), op);
	return err_set(err, 0, "fsched-worker ended with status %d during %s", WEXITSTATUS(status), op);
}

/* Returns false if the worker was killed before it had ended. *status: its wait status. */
static bool worker_call_complete(struct call *c, const char *text, int *status)
{
	const int64_t deadline = now_us() + (int64_t)(c->o->seconds + MARGIN_S) * 1000000;
	bool ended;

	progress_start(&c->progress, c->o->label, false);
	worker_call_send(c, text);
	worker_call_send(c, "\n");
	ended = worker_call_run(c, deadline) == 0;
	progress_end(&c->progress);
	if (!ended && !worker_call_stopped(c))
		kill(c->pid, SIGKILL);
	close(steal_fd(&c->in));
	while (waitpid(c->pid, status, 0) < 0 && errno == EINTR)
		;
	return ended;
}

int worker_call(const struct worker_call *o, json_t *req, json_t **result, struct err *err)
{
	struct call c = { .o = o, .pid = -1, .in = -1, .out = -1 };
	cleanup_free char *text = req ? json_dumps(req, JSON_COMPACT) : NULL;
	int status = 0, rc = -1;
	bool ended;

	*result = NULL;
	json_decref(req);
	if (!text)
		return err_set(err, EINVAL, "the request to fsched-worker cannot be written: a path is no UTF-8 text");
	if (worker_call_start(&c, o, err) == 0) {
		c.buf = xmalloc(LINE_MAX_BYTES);
		ended = worker_call_complete(&c, text, &status);
		rc = worker_call_outcome(&c, status, ended, err);
	}
	cleanup_closep(&c.in);
	cleanup_closep(&c.out);
	free(c.buf);
	*result = c.result;
	return rc;
}

void worker_call_print_warnings(const char *command, const json_t *result)
{
	char text[1024];
	const json_t *w;
	size_t i;

	json_array_foreach(json_object_get(result, "warnings"), i, w)
		cli_error(command, "warning: %s",
			  printable(json_string_value(w) ? json_string_value(w) : "", text, sizeof(text)));
}
