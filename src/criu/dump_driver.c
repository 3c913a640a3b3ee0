/* The driver of a dump, see criu_dump.c. It opens no file and waits for nothing without a timeout, because it enforces
 * the limit of the freeze. */
#include "criu/criu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/util.h"
#include "criu/criu_image.h"
#include "criu/dump_relay.h"
#include "criu/dump_session.h"
#include "criu/tcp_freeze.h"
#include "criu_rpc.pb-c.h"

enum { REQ_DUMP = 1, REQ_NOTIFY = 6 }; /* criu_req_type */
enum { CG_IGNORE = 0, NET_LOCK_SKIP = 3 };

#define LOG_LEVEL 2  /* errors and warnings; debug output costs time in the freeze */
#define DRAIN_MS  50 /* the kernel delivers data that is in flight on the loopback in less than 1 ms */

/* The limit of the freeze. */
struct limit {
	int64_t end; /* now_us(), 0 = none */
	unsigned seconds;
	bool over;
};

static int driver_send_request(int sk, CriuReq *req)
{
	uint8_t buf[RELAY_MAX];
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
	uint8_t buf[RELAY_MAX];
	ssize_t n;

	if (!limit_wait(&p, 1, l))
		return NULL;
	do
		n = recv(sk, buf, sizeof(buf), 0);
	while (n < 0 && errno == EINTR);
	return n > 0 ? criu_resp__unpack(NULL, (size_t)n, buf) : NULL;
}

static int driver_request_dump(int sk, const struct dump_session *s)
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

	relay_send(relay, RELAY_NOTIFY, script);
	do {
		if (!limit_wait(p, ARRAY_SIZE(p), l) || p[1].revents || relay_recv(relay, &m))
			return false;
		if (m.kind == RELAY_EXTEND)
			limit_begin(l, (unsigned)strtoul(m.text, NULL, 10));
	} while (m.kind == RELAY_EXTEND);
	return m.kind == RELAY_CONTINUE;
}

/* Kills criu, which thaws the processes. */
static void driver_end_freeze(const struct dump_session *s, pid_t criu, const struct limit *l, const char *script)
{
	char text[256];

	kill(criu, SIGKILL);
	snprintf(text, sizeof(text),
		 "the job stood still for more than %u s (CheckpointFreezeTimeout is %u s), because %s; it was let go",
		 l->seconds, s->dump->freeze_configured,
		 script[0] ? "fsched did not finish its work in the freeze" : "criu did not finish the dump");
	relay_send(s->relay[1], RELAY_FREEZE_TIMEOUT, text);
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

/* The connections that leave the job are no matter of criu. */
static int driver_leave_foreign(struct tcp_sockets *t, const struct criu_dump *d, struct err *err)
{
	struct tcp_sockets foreign;
	int rc;

	tcp_split_foreign(t, &foreign, d->tcp_close);
	rc = d->tcp_close ? tcp_close_foreign(&foreign, d->names_fd, err) : tcp_refuse_foreign(&foreign, err);
	tcp_free(&foreign);
	return rc;
}

/* Called when all processes are stopped and criu has not touched a socket yet. */
static int driver_begin_tcp(pid_t criu, struct tcp_sockets *t, const struct criu_dump *d, struct err *err)
{
	if (tcp_collect(t, criu, err))
		return -1;
	if (!t->n)
		return 0;
	if (driver_check_library(criu, err) || driver_leave_foreign(t, d, err))
		return -1;
	if (!t->n)
		return 0;
	tcp_drain(t, DRAIN_MS);
	if (tcp_guard(criu, t, err) < 0)
		return -1;
	tcp_block(t);
	return 0;
}

/* The driver's own work at a notification. */
static int driver_on_script(const char *script, pid_t criu, struct tcp_sockets *t, const struct dump_session *s,
			    struct limit *l)
{
	struct err err = { 0 };
	int rc = 0;

	/* criu stops the processes next. */
	if (!strcmp(script, "pre-dump"))
		limit_begin(l, s->dump->freeze_limit);
	if (!strcmp(script, "query-ext-files"))
		rc = driver_begin_tcp(criu, t, s->dump, &err);
	if (!strcmp(script, "post-dump") && !tcp_unchanged(t, &err))
		rc = -1;
	if (rc)
		relay_send(s->relay[1], err.num == EAGAIN ? RELAY_TRY_AGAIN : RELAY_DRIVER_FAILED, err.text);
	return rc;
}

static void driver_converse(int sk, pid_t criu, const struct dump_session *s)
{
	struct tcp_sockets tcp = { 0 };
	struct limit limit = { 0 };
	char script[64] = "";
	CriuResp *r;
	bool ok;

	if (driver_request_dump(sk, s)) {
		relay_send(s->relay[1], RELAY_CRIU_FAILED, "");
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
		relay_send(s->relay[1], RELAY_SUCCESS, "");
	else
		relay_send(s->relay[1], RELAY_CRIU_FAILED, r && r->cr_errmsg ? r->cr_errmsg : "");
	if (r)
		criu_resp__free_unpacked(r, NULL);
	tcp_free(&tcp);
}

static void driver_exec_criu(const struct dump_session *s, int sk)
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

_Noreturn void dump_driver_main(const struct dump_session *s)
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
	snprintf(s->fd_arg, DUMP_FD_ARG_LEN, "%s%d", s->bin->job ? "@" : "", pair[1]); /* "@": see criu_restore_argv()
											*/
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
