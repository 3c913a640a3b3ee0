/* Runs fsched-worker as a child: the request goes to its standard input, its events come from its standard output
 * (docs/internals.md). */
#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/progress.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"

enum {
	LINE_MAX_BYTES = 65536,
	MARGIN_S = 30 /* s after which a worker that does not keep CheckpointTimeout itself is killed */
};

struct worker_call {
	pid_t pid;
	int in, out; /* our ends. in is a socket, so that writing to a dead worker raises no SIGPIPE */
	char *buf;
	size_t len;
	struct progress progress;
	json_t *result;
	bool (*held)(void *arg, const json_t *event);
	void *arg;
};

int pod_user_cred(const char *user, struct pod_cred *cred, struct err *err)
{
	const struct passwd *pw;
	int room = 32;

	memset(cred, 0, sizeof(*cred));
	errno = 0;
	pw = user ? getpwnam(user) : getpwuid(0);
	if (!pw)
		return err_set(err, errno, "there is no user \"%s\" on this machine", user ? user : "root");
	cred->uid = pw->pw_uid;
	cred->gid = pw->pw_gid;
	do {
		cred->n_groups = room;
		cred->groups = xrealloc(cred->groups, (size_t)room * sizeof(gid_t));
		room *= 2;
	} while (getgrouplist(pw->pw_name, pw->pw_gid, cred->groups, &cred->n_groups) < 0 && room < 1 << 18);
	return 0;
}

json_t *pod_request(const struct pod_opts *o, const struct pod_home *h, const struct job_record *rec,
		    const struct pod_cred *cred, bool private_tmp, unsigned epoch)
{
	char dir[4096];
	json_t *req;

	pod_home_dir(h, dir, sizeof(dir));
	req = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:b, s:b}", "uuid", rec->uuid, "script", "", "epoch",
			(json_int_t)epoch, "run", (json_int_t)rec->run, "uid", (json_int_t)cred->uid, "gid",
			(json_int_t)cred->gid, "groups", json_gids(cred->groups, cred->n_groups), "private_tmp",
			(int)private_tmp, "sign", 0);
	json_set_name(req, "job_dir", h->store.path);
	json_set_name(req, "pod_dir", dir);
	json_set_name(req, "config", o->conf.path);
	return req;
}

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

static int worker_call_start(struct worker_call *c, const struct pod_opts *o, const char *op, int keep_fd, struct err *err)
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
		worker_call_exec(path, op, in[1], out[1], keep_fd, me);
	close(in[1]);
	close(out[1]);
	c->in = in[0];
	c->out = out[0];
	return c->pid < 0 ? err_sys(err, errno, "cannot fork") : 0;
}

static int worker_call_send(struct worker_call *c, const char *text)
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

static void worker_call_line(struct worker_call *c, const char *line)
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
		worker_call_send(c, c->held && c->held(c->arg, o) ? "kill\n" : "resume\n");
	} else if (event && !strcmp(event, "result")) {
		json_decref(c->result);
		c->result = json_incref(o);
	}
	json_decref(o);
}

/* Reads and handles complete lines. False: end of file, or a line is too long. */
static bool worker_call_read(struct worker_call *c)
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
static int worker_call_run(struct worker_call *c, int64_t deadline)
{
	struct pollfd p = { c->out, POLLIN, 0 };
	int got;

	while (!c->result) {
		if (now_us() >= deadline)
			return -1;
		got = poll(&p, 1, 200);
		progress_tick(&c->progress);
		if (got > 0 && !worker_call_read(c))
			return 0;
	}
	return 0;
}

static json_t *worker_call_result(struct worker_call *c, const char *op, int status, bool late, unsigned limit,
				  struct err *err)
{
	const char *error = json_string_value(json_object_get(c->result, "error"));

	if (json_is_true(json_object_get(c->result, "ok")))
		return json_incref(c->result);
	if (error)
		err_set(err, 0, "%s", error);
	else if (late)
		err_set(err, ETIMEDOUT, "%s was given up after %u s (CheckpointTimeout)", op, limit);
	else if (WIFSIGNALED(status))
		err_set(err, 0, "fsched-worker was killed by signal %d during %s", WTERMSIG(status), op);
	else
		err_set(err, 0, "fsched-worker ended with status %d during %s", WEXITSTATUS(status), op);
	return NULL;
}

json_t *pod_worker(const struct pod_opts *o, const char *op, json_t *req, int keep_fd,
		   bool (*held)(void *arg, const json_t *event), void *arg, struct err *err)
{
	struct worker_call c = { .pid = -1, .in = -1, .out = -1, .held = held, .arg = arg };
	cleanup_free char *text = req ? json_dumps(req, JSON_COMPACT) : NULL;
	json_t *result = NULL;
	int status = 0;
	bool late;

	json_decref(req);
	if (!text) {
		err_set(err, EINVAL, "the request to fsched-worker cannot be written: a path is no UTF-8 text");
		return NULL;
	}
	if (worker_call_start(&c, o, op, keep_fd, err))
		goto out;
	c.buf = xmalloc(LINE_MAX_BYTES);
	progress_start(&c.progress, "pod", false);
	worker_call_send(&c, text);
	worker_call_send(&c, "\n");
	late = worker_call_run(&c, now_us() + (int64_t)(conf_checkpoint_seconds(&o->conf) + MARGIN_S) * 1000000) != 0;
	progress_end(&c.progress);
	if (late)
		kill(c.pid, SIGKILL);
	close(steal_fd(&c.in));
	while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
		;
	result = worker_call_result(&c, op, status, late, o->conf.timeout, err);
out:
	if (c.in >= 0)
		close(c.in);
	if (c.out >= 0)
		close(c.out);
	json_decref(c.result);
	free(c.buf);
	return result;
}
