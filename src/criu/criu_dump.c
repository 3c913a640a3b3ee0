/* A dump: worker -> helper -> driver -> criu.
 *
 * The helper enters the pod's PID and mount namespaces and forks the driver, so that the driver and criu see the pod's
 * /proc: criu finds its client by the pid of SO_PEERCRED, and opens the directories as /proc/PID/fd/N. The work during
 * the freeze needs host pids and host files, so the driver forwards criu's notifications to the worker and waits for
 * the answer. All files that criu needs to start are opened before the namespaces are entered, because a private /tmp
 * may hide them.
 *
 * The driver also enforces the limit of the freeze. Therefore it opens no file and waits for nothing without a timeout.
 */
#include "criu/criu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu_rpc.pb-c.h"
#include "criu/tcp_freeze.h"

enum { REQ_DUMP = 1, REQ_NOTIFY = 6 }; /* criu_req_type */
enum { CG_IGNORE = 0, NET_LOCK_SKIP = 3 };

#define LOG_LEVEL  2 /* errors and warnings; debug output costs time in the freeze */
#define MSG_MAX    4096
#define MAX_PATHS  8
#define FD_ARG_LEN 12
#define DRAIN_MS   50 /* the kernel delivers data that is in flight on the loopback in less than 1 ms */

/* One message between driver and worker. */
struct relay {
	/* From the driver:
	 *
	 * N: notification, answered by Y (continue) or F (fail)
	 *
	 * S: success
	 *
	 * E: criu has failed
	 *
	 * D: the driver has failed
	 *
	 * A: the driver has failed, the next dump may succeed
	 *
	 * T: the freeze took too long
	 *
	 * To the driver, instead of Y or F: W, the seconds that the freeze may still take. */
	char kind;
	char text[MSG_MAX - 1];
};

struct session {
	const struct criu_bin *bin;
	struct criu_dump *dump;
	char **argv, **envp;
	char *fd_arg; /* the element of argv that names criu's socket */
	int pid_ns, mnt_ns;
	int paths[MAX_PATHS], n_paths; /* O_PATH descriptors of criu's files */
	int relay[2];                  /* worker's, driver's end */
	int remote_call[2];            /* worker's, criu's end; -1 unless memory is elided */
	int null, errors;
	int images_fd, work_fd;
	struct err callback; /* why stopped() or frozen() has failed */
	bool killed;
};

/* The driver's limit of the freeze. */
struct limit {
	int64_t end; /* now_us(), 0 = none */
	unsigned seconds;
	bool over;
};

static void relay_send(int fd, char kind, const char *text)
{
	struct relay m = { .kind = kind };
	ssize_t n;

	snprintf(m.text, sizeof(m.text), "%s", text ? text : "");
	do
		n = send(fd, &m, offsetof(struct relay, text) + strlen(m.text) + 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
}

static void relay_errno(int fd, const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	relay_send(fd, 'D', text);
}

static int relay_recv(int fd, struct relay *m)
{
	ssize_t n;

	do
		n = recv(fd, m, sizeof(*m) - 1, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return -1;
	((char *)m)[n] = '\0';
	return 0;
}

/* ---- driver: in the pod's PID and mount namespaces ---- */

static int driver_send_request(int sk, CriuReq *req)
{
	uint8_t buf[MSG_MAX];
	size_t len = criu_req__get_packed_size(req);
	ssize_t n;

	if (len > sizeof(buf))
		return -1;
	criu_req__pack(req, buf);
	do
		n = send(sk, buf, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : -1;
}

static void limit_begin(struct limit *l, unsigned seconds)
{
	l->seconds = seconds;
	l->end = seconds ? now_us() + (int64_t)seconds * 1000000 : 0;
}

/* Waits until one of the descriptors has an event. Returns false when the time is over. */
static bool limit_wait(struct pollfd *p, nfds_t n, struct limit *l)
{
	int64_t left;
	int got, ms;

	do {
		left = l->end ? (l->end - now_us()) / 1000 : 0;
		ms = l->end ? (int)(left < 0 ? 0 : left < INT_MAX ? left : INT_MAX) : -1;
		got = poll(p, n, ms);
	} while ((got < 0 && errno == EINTR) || (got == 0 && l->end && now_us() < l->end));
	l->over = got == 0;
	return got > 0;
}

static CriuResp *driver_recv_response(int sk, struct limit *l)
{
	struct pollfd p = { sk, POLLIN, 0 };
	uint8_t buf[MSG_MAX];
	ssize_t n;

	if (!limit_wait(&p, 1, l))
		return NULL;
	do
		n = recv(sk, buf, sizeof(buf), 0);
	while (n < 0 && errno == EINTR);
	return n > 0 ? criu_resp__unpack(NULL, (size_t)n, buf) : NULL;
}

static int driver_request_dump(int sk, const struct session *s)
{
	CriuOpts o = CRIU_OPTS__INIT;
	CriuReq req = CRIU_REQ__INIT;
	char log[] = CRIU_DUMP_LOG;

	o.images_dir_fd = s->images_fd;
	o.has_work_dir_fd = 1;
	o.work_dir_fd = s->work_fd;
	o.has_pid = 1;
	o.pid = CRIU_LEADER_PID;
	o.has_leave_running = o.leave_running = 1;
	o.has_tcp_established = o.tcp_established = 1;
	o.has_file_locks = o.file_locks = 1;
	o.has_link_remap = o.link_remap = 1;
	o.has_notify_scripts = o.notify_scripts = 1;
	o.has_log_level = 1;
	o.log_level = LOG_LEVEL;
	o.log_file = log;
	o.has_manage_cgroups_mode = 1;
	o.manage_cgroups_mode = CG_IGNORE;
	o.has_ghost_limit = 1;
	o.ghost_limit = s->dump->ghost_limit > UINT32_MAX ? UINT32_MAX : (uint32_t)s->dump->ghost_limit;
	o.has_network_lock = 1;
	o.network_lock = NET_LOCK_SKIP;
	if (s->dump->elide_parent) {
		o.has_track_mem = o.track_mem = 1;
		o.parent_img = (char *)(uintptr_t)s->dump->elide_parent;
	}
	req.type = REQ_DUMP;
	req.opts = &o;
	return driver_send_request(sk, &req);
}

static int driver_answer_notify(int sk, bool ok)
{
	CriuReq req = CRIU_REQ__INIT;

	req.type = REQ_NOTIFY;
	req.has_notify_success = 1;
	req.notify_success = ok;
	return driver_send_request(sk, &req);
}

/* Forwards a notification to the worker and returns its answer. False if the worker has ended. Also false if criu has
 * ended: the processes run again then, and the worker has to learn it at once. */
static bool driver_ask_worker(int relay, int sk, const char *script, struct limit *l)
{
	struct pollfd p[] = { { relay, POLLIN, 0 }, { sk, POLLRDHUP, 0 } };
	struct relay m;

	relay_send(relay, 'N', script);
	do {
		if (!limit_wait(p, ARRAY_SIZE(p), l) || p[1].revents || relay_recv(relay, &m))
			return false;
		if (m.kind == 'W')
			limit_begin(l, (unsigned)strtoul(m.text, NULL, 10));
	} while (m.kind == 'W');
	return m.kind == 'Y';
}

/* Kills criu, which thaws the processes. */
static void driver_end_freeze(const struct session *s, pid_t criu, const struct limit *l, const char *script)
{
	char text[256];

	kill(criu, SIGKILL);
	snprintf(text, sizeof(text),
		 "the job stood still for more than %u s (CheckpointFreezeTimeout is %u s), because %s; it was let go",
		 l->seconds, s->dump->freeze_configured,
		 script[0] ? "fsched did not finish its work in the freeze" : "criu did not finish the dump");
	relay_send(s->relay[1], 'T', text);
}

/* Checks that criu has loaded the library. Without it criu would save the filters that fsched puts on the job's
 * sockets, and would not remove them. */
static int driver_check_library(pid_t criu, struct err *err)
{
	cleanup_free char *maps = NULL;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)criu);
	if (read_file_at(AT_FDCWD, path, 1 << 20, &maps) > 0 && strstr(maps, "/" CRIU_PRELOAD))
		return 0;
	return err_set(err, ENOENT,
		       "the job has TCP connections, for which criu needs fsched's library %s: it is missing beside the programs of "
		       "fsched, or this criu is linked statically",
		       CRIU_PRELOAD);
}

/* Called when all processes are stopped and criu has not touched a socket yet. */
static int driver_begin_tcp(pid_t criu, struct tcp_sockets *t, struct err *err)
{
	if (tcp_collect(t, criu, err))
		return -1;
	if (!t->n)
		return 0;
	if (driver_check_library(criu, err))
		return -1;
	tcp_drain(t, DRAIN_MS);
	if (tcp_guard(criu, t, err) < 0)
		return -1;
	tcp_block(t);
	return 0;
}

/* The driver's own work at a notification. */
static int driver_on_script(const char *script, pid_t criu, struct tcp_sockets *t, const struct session *s,
			    struct limit *l)
{
	struct err err = { 0 };
	int rc = 0;

	/* criu stops the processes next. */
	if (!strcmp(script, "pre-dump"))
		limit_begin(l, s->dump->freeze_limit);
	if (!strcmp(script, "query-ext-files"))
		rc = driver_begin_tcp(criu, t, &err);
	if (!strcmp(script, "post-dump") && !tcp_unchanged(t, &err))
		rc = -1;
	if (rc)
		relay_send(s->relay[1], err.num == EAGAIN ? 'A' : 'D', err.text);
	return rc;
}

static void driver_converse(int sk, pid_t criu, const struct session *s)
{
	struct tcp_sockets tcp = { 0 };
	struct limit limit = { 0 };
	char script[64] = "";
	CriuResp *r;
	bool ok;

	if (driver_request_dump(sk, s)) {
		relay_send(s->relay[1], 'E', "");
		return;
	}
	while ((r = driver_recv_response(sk, &limit)) && r->type == REQ_NOTIFY) {
		snprintf(script, sizeof(script), "%s", r->notify && r->notify->script ? r->notify->script : "");
		criu_resp__free_unpacked(r, NULL);
		r = NULL;
		ok = driver_on_script(script, criu, &tcp, s, &limit) == 0 &&
		     driver_ask_worker(s->relay[1], sk, script, &limit);
		if (limit.over || driver_answer_notify(sk, ok))
			break;
		script[0] = '\0';
	}
	if (limit.over)
		driver_end_freeze(s, criu, &limit, script);
	else if (r && r->type == REQ_DUMP && r->success)
		relay_send(s->relay[1], 'S', "");
	else
		relay_send(s->relay[1], 'E', r && r->cr_errmsg ? r->cr_errmsg : "");
	if (r)
		criu_resp__free_unpacked(r, NULL);
	tcp_free(&tcp);
}

static void driver_exec_criu(const struct session *s, int sk)
{
	criu_die_with_parent();
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	/* The preload library and the loader's files stay open: the paths in argv and envp are /proc/self/fd/N. */
	for (int i = 0; i < s->n_paths; i++)
		fcntl(s->paths[i], F_SETFD, 0);
	fcntl(sk, F_SETFD, 0);
	if (s->remote_call[1] >= 0)
		fcntl(s->remote_call[1], F_SETFD, 0);
	fcntl(s->dump->names_fd, F_SETFD, 0);
	if (dup2(s->null, 0) < 0 || dup2(s->null, 1) < 0 || dup2(s->errors, 2) < 0)
		_exit(126);
	execve(s->argv[0], s->argv, s->envp);
	dprintf(2, "cannot run criu: %s\n", strerror(errno));
	_exit(127);
}

static void driver_main(const struct session *s)
{
	int pair[2];
	struct relay m;
	pid_t criu;

	criu_die_with_parent();
	/* The parent is in another PID namespace, so getppid() cannot tell if it died before criu_die_with_parent().
	 * The worker's first message can. */
	if (relay_recv(s->relay[1], &m))
		_exit(1);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		_exit(1);
	snprintf(s->fd_arg, FD_ARG_LEN, "%s%d", s->bin->job ? "@" : "", pair[1]); /* "@": see criu_restore_argv() */
	criu = fork();
	if (criu == 0)
		driver_exec_criu(s, pair[1]);
	close(pair[1]);
	if (criu > 0)
		driver_converse(pair[0], criu, s);
	else
		relay_errno(s->relay[1], "cannot fork criu inside the pod");
	close(pair[0]);
	while (criu > 0 && waitpid(criu, NULL, 0) < 0 && errno == EINTR)
		;
	/* The guard of its sockets ends with it. */
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	_exit(0);
}

/* ---- helper: enters the namespaces ---- */

static void helper_main(const struct session *s)
{
	pid_t driver;

	criu_die_with_parent();
	criu_ignore_signals();
	close(s->relay[0]);
	if (s->remote_call[0] >= 0)
		close(s->remote_call[0]);
	umask(077);
	if (setns(s->pid_ns, CLONE_NEWPID) || setns(s->mnt_ns, CLONE_NEWNS) || chdir("/")) {
		relay_errno(s->relay[1], "cannot enter the pod's namespaces");
		_exit(1);
	}
	driver = fork();
	if (driver == 0)
		driver_main(s);
	if (driver < 0)
		relay_errno(s->relay[1], "cannot fork inside the pod");
	close(s->relay[1]);
	while (driver > 0 && waitpid(driver, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* ---- worker ---- */

static int64_t dump_realtime_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Opens path and returns "/proc/self/fd/N", which is valid in the pod's mount namespace as well. */
static char *session_pin(struct session *s, const char *path, struct err *err)
{
	int fd = s->n_paths < MAX_PATHS ? open(path, O_PATH | O_CLOEXEC) : -1;

	if (fd < 0) {
		err_sys(err, errno, "cannot open %s", path);
		return NULL;
	}
	s->paths[s->n_paths++] = fd;
	return xasprintf("/proc/self/fd/%d", fd);
}

static int session_build_command(struct session *s, struct err *err)
{
	static const char prefix[] = "LD_PRELOAD=";
	int n = 0;

	s->argv = xcalloc(ARRAY_SIZE(s->bin->argv) + 4, sizeof(*s->argv));
	for (; s->bin->argv[n]; n++) {
		s->argv[n] = s->bin->argv[n][0] == '/' ? session_pin(s, s->bin->argv[n], err) : xstrdup(s->bin->argv[n]);
		if (!s->argv[n])
			return -1;
	}
	s->argv[n++] = xstrdup("--no-default-config");
	s->argv[n++] = xstrdup("swrk");
	s->fd_arg = s->argv[n] = xcalloc(1, FD_ARG_LEN);
	s->envp = criu_envp(s->bin, s->dump->elide_parent != NULL, s->dump->elide_shared, s->remote_call[1],
			    s->dump->names_fd);
	for (int i = 0; s->envp[i]; i++) {
		cleanup_free char *old = NULL, *path = NULL;

		if (strncmp(s->envp[i], prefix, strlen(prefix)))
			continue;
		path = session_pin(s, s->envp[i] + strlen(prefix), err);
		if (!path)
			return -1;
		old = s->envp[i];
		s->envp[i] = xasprintf("%s%s", prefix, path);
	}
	return 0;
}

static int session_open_ns(pid_t pid, const char *name, struct err *err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err_sys(err, errno, "cannot open the pod's %s namespace (process %d)", name, pid);
	return fd;
}

static int session_open_remote_call(struct session *s, struct err *err)
{
	if (!s->dump->elide_parent)
		return 0;
	if (!s->bin->preload[0])
		return err_set(err, ENOENT, "the library that fsched loads into criu is missing");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->remote_call))
		return err_sys(err, errno, "cannot prepare descriptors for criu");
	s->dump->remote_call = s->remote_call[0];
	return 0;
}

static int session_open(struct session *s, struct err *err)
{
	if (session_open_remote_call(s, err) || session_build_command(s, err))
		return -1;
	s->pid_ns = session_open_ns(s->dump->init, "pid", err);
	s->mnt_ns = s->pid_ns < 0 ? -1 : session_open_ns(s->dump->init, "mnt", err);
	if (s->mnt_ns < 0)
		return -1;
	s->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	s->errors = memfd_create("criu-stderr", MFD_CLOEXEC);
	if (s->null < 0 || s->errors < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->relay))
		return err_sys(err, errno, "cannot prepare descriptors for criu");
	return 0;
}

static void session_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void session_close(struct session *s)
{
	for (int i = 0; i < s->n_paths; i++)
		close(s->paths[i]);
	session_close_fd(&s->pid_ns);
	session_close_fd(&s->mnt_ns);
	session_close_fd(&s->null);
	session_close_fd(&s->errors);
	session_close_fd(&s->relay[0]);
	session_close_fd(&s->relay[1]);
	session_close_fd(&s->remote_call[0]);
	session_close_fd(&s->remote_call[1]);
	criu_argv_free(s->argv);
	criu_argv_free(s->envp);
}

bool criu_still_frozen(const struct criu_dump *d)
{
	struct pollfd p = { d->watch_fd, POLLIN, 0 };

	return d->watch_fd >= 0 && poll(&p, 1, 0) == 0;
}

void criu_dump_allow(const struct criu_dump *d, unsigned seconds)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", seconds);
	if (d->watch_fd >= 0)
		relay_send(d->watch_fd, 'W', text);
}

/* criu sends "query-ext-files" as soon as all tasks are stopped, and "post-dump" when all images are written and the
 * tasks are still stopped. */
static bool dump_on_notify(struct session *s, const char *script)
{
	struct criu_dump *d = s->dump;
	int rc;

	if (!strcmp(script, "query-ext-files")) {
		d->freeze_began = dump_realtime_us();
		if (d->phase)
			d->phase(d->arg, "frozen");
		return d->stopped(d->arg, &s->callback) == 0;
	}
	if (strcmp(script, "post-dump") || !d->frozen)
		return true;
	d->watch_fd = s->relay[0];
	rc = d->frozen(d->arg, &s->callback);
	d->watch_fd = -1;
	s->killed = rc > 0;
	return rc >= 0;
}

/* Serves the driver's messages until criu has ended. Returns 0, or -1 with err. */
static int dump_follow(struct session *s, struct err *err)
{
	struct relay m = { 0 };

	relay_send(s->relay[0], 'Y', "");
	while (relay_recv(s->relay[0], &m) == 0) {
		if (m.kind == 'S')
			return 0;
		if (strchr("EDAT", m.kind))
			break;
		relay_send(s->relay[0], dump_on_notify(s, m.text) ? 'Y' : 'F', "");
		if (s->killed)
			return 0;
		m.text[0] = '\0';
	}
	/* A failure of the callback is a consequence of this. */
	if (m.kind == 'T')
		return err_set(err, ETIME, "%s", m.text);
	if (s->callback.text[0]) {
		if (err)
			*err = s->callback;
		return -1;
	}
	if (m.kind == 'D' || m.kind == 'A')
		return err_set(err, m.kind == 'A' ? EAGAIN : 0, "%s", m.text);
	return criu_explain(err, s->work_fd, CRIU_DUMP_LOG, m.text, s->errors);
}

int criu_dump(const struct criu_bin *b, struct criu_dump *d, struct err *err)
{
	struct session s = {
		.bin = b,
		.dump = d,
		.pid_ns = -1,
		.mnt_ns = -1,
		.relay = { -1, -1 },
		.remote_call = { -1, -1 },
		.null = -1,
		.errors = -1,
		.images_fd = d->images_fd,
		.work_fd = d->work_fd > 0 ? d->work_fd : d->images_fd,
	};
	pid_t helper;
	int rc = -1;

	d->frozen_us = d->freeze_began = 0;
	d->watch_fd = d->remote_call = -1;
	/* Files of an earlier dump must not be mistaken for those of this one. */
	unlinkat(s.work_fd, CRIU_STATS, 0);
	unlinkat(s.work_fd, CRIU_DUMP_LOG, 0);
	if (session_open(&s, err))
		goto out;
	helper = fork();
	if (helper == 0)
		helper_main(&s);
	if (helper < 0) {
		err_sys(err, errno, "cannot fork");
		goto out;
	}
	session_close_fd(&s.relay[1]);
	session_close_fd(&s.remote_call[1]);
	rc = dump_follow(&s, err);
	session_close_fd(&s.relay[0]);
	while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && !s.killed)
		d->frozen_us = criu_read_frozen_us(s.work_fd);
out:
	session_close(&s);
	return rc;
}
