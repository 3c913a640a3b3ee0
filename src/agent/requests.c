/* Requests of users: the listening socket, and the agent's side of each connection. */
#include "agent/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/conn.h"
#include "agent/protocol.h"
#include "base/log.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"

#define WHERE_TIMEOUT 30       /* s */
#define BURST_MAX     32       /* connections per second; each costs a fork */
#define REFUSED_PAUSE 10000000 /* us between two lines about refused requests */
#define LIST_MAX      300      /* epochs in an answer: it must fit one line */

static void on_connection(void *arg);

/* ---- the agent's side of a connection ---- */

static void send_json(struct conn_slot *c, json_t *o)
{
	cleanup_free char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	if (text && c->sock.fd >= 0)
		send(c->sock.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void close_sock(struct conn_slot *c)
{
	int fd = c->sock.fd;

	loop_remove(&c->a->loop, &c->sock);
	if (fd >= 0)
		close(fd);
}

void conn_phase(struct conn_slot *c, const char *name)
{
	json_t *o;

	if (!c)
		return;
	o = json_pack("{s:s, s:o}", "event", "phase", "name", json_text(name));
	send_json(c, o);
	json_decref(o);
}

void conn_result(struct conn_slot *c, json_t *result)
{
	if (c) {
		send_json(c, result);
		/* the child sends what is queued, then sees the end of file and ends */
		close_sock(c);
	}
	json_decref(result);
}

void conn_refuse(struct conn_slot *c, const char *op, const char *error, const char *state)
{
	conn_result(c, json_pack("{s:s, s:b, s:s, s:o, s:o}", "event", "result", "ok", 0, "op", op, "error",
				 json_text(error), "state", json_text(state)));
}

static json_t *epoch_list(const struct agent *a)
{
	json_t *list = json_array();
	unsigned first = a->rec.n_epochs > LIST_MAX ? a->rec.n_epochs - LIST_MAX : 0;

	for (unsigned i = first; i < a->rec.n_epochs; i++) {
		const struct epoch_summary *e = &a->rec.epochs[i];

		json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "epoch", (json_int_t)e->number,
						      "time", (json_int_t)e->time, "bytes", (json_int_t)e->bytes,
						      "frozen_us", (json_int_t)e->frozen_us, "total_us",
						      (json_int_t)e->total_us, "run", (json_int_t)e->run));
	}
	return list;
}

/* status, error and list: what the agent knows, at once; able too, before the look at the job. */
static json_t *describe(const struct agent *a, const char *op)
{
	const struct status *s = &a->pub.status;
	json_t *o = json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:o, s:I, s:I, s:I, s:s}", "event", "result", "ok", 1,
			      "op", op, "state", s->state, "interval", (json_int_t)s->interval, "epoch",
			      (json_int_t)s->epoch, "error", json_text(s->error), "skipped", (json_int_t)s->skipped,
			      "restored", (json_int_t)s->restored, "run", (json_int_t)a->rec.run, "uuid", a->task.uuid);

	if (!o)
		return NULL;
	json_object_set_new(o, "busy", json_boolean(a->op.active));
	if (a->op.active) {
		json_object_set_new(o, "operation", json_string(op_name(a->op.kind)));
		json_object_set_new(o, "phase", json_text(a->op.phase));
		json_object_set_new(o, "began", json_integer(a->op.began));
	}
	if (a->sched.timer.at)
		json_object_set_new(o, "next_in", json_integer((a->sched.timer.at - now_us()) / 1000000));
	if (strcmp(op, "list") == 0 || strcmp(op, "status") == 0)
		json_object_set_new(o, "epochs", epoch_list(a));
	return o;
}

void conn_able(struct conn_slot *c, const char *reason)
{
	json_t *o = describe(c->a, "able");

	json_object_set_new(o, "able", json_boolean(!reason));
	if (reason)
		json_object_set_new(o, "reason", json_text(reason));
	conn_result(c, o);
}

static void dispatch(struct conn_slot *c, const char *op)
{
	if (strcmp(op, "create") == 0)
		op_request(c->a, OP_CREATE, c);
	else if (strcmp(op, "vacate") == 0)
		op_request(c->a, OP_VACATE, c);
	else if (strcmp(op, "able") == 0)
		able_request(c->a, c);
	else
		conn_result(c, describe(c->a, op));
}

/* Anybody on the network can cause these: a few lines, not a flood. */
static void log_refused(struct agent *a, const char *why)
{
	int64_t now = now_us();

	a->req.refused++;
	if (a->req.refused_logged && now - a->req.refused_logged < REFUSED_PAUSE)
		return;
	log_warn("%u requests were refused; the last: %s", a->req.refused, why);
	a->req.refused = 0;
	a->req.refused_logged = now;
}

static void on_conn_message(void *arg)
{
	struct conn_slot *c = arg;
	char msg[1200], op[16];
	unsigned uid;
	ssize_t n = recv(c->sock.fd, msg, sizeof(msg) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close_sock(c);
		return;
	}
	msg[n] = '\0';
	if (strncmp(msg, "refused ", 8) == 0) {
		log_refused(c->a, msg + 8);
		close_sock(c);
	} else if (!c->asked && sscanf(msg, "%15s %u", op, &uid) == 2) {
		c->asked = true;
		c->uid = uid;
		log_debug("request %s by uid %u", op, uid);
		dispatch(c, op);
	}
}

static void watch_listener(struct agent *a)
{
	int fd = a->req.listen.fd;

	loop_remove(&a->loop, &a->req.listen);
	loop_add(&a->loop, &a->req.listen, fd, on_connection, a);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void on_conn_end(void *arg, int status)
{
	struct conn_slot *c = arg;
	struct agent *a = c->a;

	/* a client may have gone at once; its request counts all the same */
	while (c->sock.fd >= 0 && !c->asked && readable(c->sock.fd))
		on_conn_message(c);
	close_sock(c);
	op_conn_gone(a, c);
	c->pid = 0;
	end_check(a);
}

/* ---- the listening socket ---- */

static struct conn_slot *free_slot(struct agent *a)
{
	struct conn_slot *oldest = NULL;

	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn_slot *c = &a->req.conns[i];

		if (!c->pid)
			return c;
		if (!c->asked && (!oldest || c->since < oldest->since))
			oldest = c;
	}
	/* silent connections must not keep everybody else out */
	if (oldest)
		kill(oldest->pid, SIGKILL);
	return NULL;
}

static void start_conn(struct agent *a, struct conn_slot *c, int client)
{
	struct conn_setup setup = { .client = client,
				    .job_id = a->task.job_id,
				    .uuid = a->task.uuid,
				    .munge_socket = a->conf.munge_socket,
				    .owner = a->task.uid,
				    .slurm_user = a->req.slurm_user };
	pid_t agent = getpid();
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
		log_error("cannot serve a request: %s", strerror(errno));
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		proc_child_setup(agent, client, sv[1]);
		proc_ignore_job_signals();
		setup.agent = sv[1];
		conn_main(&setup);
	}
	close(sv[1]);
	if (pid < 0) {
		log_error("cannot serve a request: fork: %s", strerror(errno));
		close(sv[0]);
		return;
	}
	*c = (struct conn_slot){ .a = a, .pid = pid, .since = now_us() };
	loop_add(&a->loop, &c->sock, sv[0], on_conn_message, c);
	loop_watch(&a->loop, &c->child, pid, on_conn_end, c);
}

static void on_resume(void *arg)
{
	watch_listener(arg);
}

/* Lets the listener's queue wait for the rest of the second. */
static bool too_many(struct agent *a)
{
	int64_t now = now_us();
	int fd = a->req.listen.fd;

	if (now - a->req.burst_began > 1000000) {
		a->req.burst_began = now;
		a->req.burst = 0;
	}
	if (++a->req.burst <= BURST_MAX)
		return false;
	loop_remove(&a->loop, &a->req.listen);
	a->req.listen.fd = fd; /* still open, only not looked at */
	loop_timer_set(&a->loop, &a->req.resume, a->req.burst_began + 1000000, on_resume, a);
	return true;
}

static void on_connection(void *arg)
{
	struct agent *a = arg;
	struct conn_slot *c;

	if (too_many(a))
		return;
	cleanup_close int client = accept4(a->req.listen.fd, NULL, NULL, SOCK_CLOEXEC);
	if (client < 0)
		return;
	c = free_slot(a);
	if (c)
		start_conn(a, c, client);
	else
		log_refused(a, "as many requests as an agent serves at a time are under way");
}

static int try_bind(const struct sockaddr *addr, socklen_t len, unsigned port)
{
	struct sockaddr_storage ss;
	cleanup_close int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (fd < 0)
		return -1;
	memcpy(&ss, addr, len);
	if (addr->sa_family == AF_INET6)
		((struct sockaddr_in6 *)&ss)->sin6_port = htons((uint16_t)port);
	else
		((struct sockaddr_in *)&ss)->sin_port = htons((uint16_t)port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 16) < 0)
		return -1;
	return steal_fd(&fd);
}

/* The ports of the range from a point that depends on the job, so that the agents of a node do not all try the same one
 * first. */
static int bind_in_range(const struct agent *a, const struct sockaddr *addr, socklen_t len)
{
	unsigned min = a->conf.port_min, n = a->conf.port_max - min + 1;

	if (!min)
		return try_bind(addr, len, 0);
	for (unsigned i = 0; i < n; i++) {
		int fd = try_bind(addr, len, min + (a->task.job_id + i) % n);

		if (fd >= 0 || errno != EADDRINUSE)
			return fd;
	}
	errno = EADDRINUSE;
	return -1;
}

static int bind_address(const struct agent *a, const char *text)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY) };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	int fd = -1;

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		fd = bind_in_range(a, (struct sockaddr *)&v4, sizeof(v4));
	else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		fd = bind_in_range(a, (struct sockaddr *)&v6, sizeof(v6));
	else
		errno = EADDRNOTAVAIL;
	/* behind NAT or known to Slurm by another name: every byte is authenticated, so any interface will do */
	if (fd < 0 && errno == EADDRNOTAVAIL)
		fd = bind_in_range(a, (struct sockaddr *)&any, sizeof(any));
	return fd;
}

static void listen_at(struct agent *a, const char *addr)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd = bind_address(a, addr);

	if (fd < 0 || getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
		char *text = a->req.error;

		snprintf(text, sizeof(a->req.error),
			 "the agent cannot listen for requests (ports %u-%u): %s; only periodic checkpoints are made",
			 a->conf.port_min, a->conf.port_max, strerror(errno));
		log_error("%s", text);
		publish_error(a, text);
		return;
	}
	a->req.port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
						     : ((struct sockaddr_in *)&ss)->sin_port);
	loop_add(&a->loop, &a->req.listen, fd, on_connection, a);
	snprintf(a->pub.status.agent, sizeof(a->pub.status.agent), "%u", a->req.port);
	publish_now(a);
}

/* A name is looked up in a child: a resolver can block for long and brings its libraries along. */
static int resolve_main(void *arg, int out)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *ai = NULL;
	char text[INET6_ADDRSTRLEN + 2];

	if (getaddrinfo(arg, NULL, &hints, &ai) != 0 || !ai)
		return 1;
	if (getnameinfo(ai->ai_addr, ai->ai_addrlen, text, INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST) != 0)
		return 1;
	strcat(text, "\n");
	return write_all(out, text, strlen(text)) ? 1 : 0;
}

static void on_resolved(void *arg, char *line)
{
	struct agent *a = arg;

	if (a->req.listen.fd < 0)
		listen_at(a, line);
}

static void on_resolve_end(void *arg, int status)
{
	struct agent *a = arg;

	if (a->req.listen.fd < 0)
		listen_at(a, "");
}

static void on_where(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;
	const char *addr = json_string_value(json_object_get(answer, "node_addr"));
	const json_t *user = json_object_get(answer, "slurm_uid");
	unsigned char bin[16];

	if (a->phase != PHASE_RUNNING)
		return;
	if (!ok)
		log_warn("Slurm's address of this node is not known (%s); listening on all interfaces", error);
	if (json_is_integer(user))
		a->req.slurm_user = (uid_t)json_integer_value(user);
	if (!addr || !addr[0] || inet_pton(AF_INET, addr, bin) == 1 || inet_pton(AF_INET6, addr, bin) == 1) {
		listen_at(a, addr ? addr : "");
		return;
	}
	cleanup_free char *name = xstrdup(addr);
	struct proc_spec s = { .main = resolve_main,
			       .main_arg = name,
			       .keep_fd = -1,
			       .timeout_s = 20,
			       .on_line = on_resolved,
			       .on_end = on_resolve_end,
			       .arg = a };
	if (proc_start(&a->loop, &a->req.resolve, &s, NULL) < 0)
		listen_at(a, "");
}

void requests_start(struct agent *a)
{
	a->req.slurm_user = 0;
	rpc_start(&a->loop, &a->req.where, a->libexec, WHERE_TIMEOUT, "get", a->task.job_id, NULL, on_where, a);
}

void requests_stop(struct agent *a)
{
	int fd = a->req.listen.fd;

	rpc_forget(&a->req.where);
	proc_forget(&a->req.resolve);
	loop_timer_clear(&a->loop, &a->req.resume);
	loop_remove(&a->loop, &a->req.listen);
	if (fd >= 0)
		close(fd);
	a->pub.status.agent[0] = '\0';
	able_stop(a);
	/* those who have not asked yet get no answer any more */
	for (int i = 0; i < CONNS_MAX; i++)
		if (a->req.conns[i].pid && !a->req.conns[i].asked)
			kill(a->req.conns[i].pid, SIGKILL);
}

bool requests_idle(const struct agent *a)
{
	for (int i = 0; i < CONNS_MAX; i++)
		if (a->req.conns[i].pid)
			return false;
	return true;
}
