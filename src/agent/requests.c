#include "agent/requests.h"

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
#include "base/log.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"

#define REQUESTS_WHERE_TIMEOUT 30       /* s */
#define REQUESTS_BURST_MAX     32       /* connections per second; each costs a fork */
#define REQUESTS_REFUSED_PAUSE 10000000 /* us between two lines about refused requests */

static void requests_on_connection(void *arg);

/* ---- the agent's side of a connection ---- */

static void request_send(struct request *r, json_t *o)
{
	cleanup_free char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	if (text && r->sock.fd >= 0)
		send(r->sock.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void request_close(struct request *r)
{
	int fd = r->sock.fd;

	loop_remove(r->all->job->loop, &r->sock);
	if (fd >= 0)
		close(fd);
}

void request_phase(struct request *r, const char *name)
{
	json_t *o;

	if (!r)
		return;
	o = json_pack("{s:s, s:o}", "event", "phase", "name", json_text(name));
	request_send(r, o);
	json_decref(o);
}

void request_result(struct request *r, json_t *result)
{
	if (r) {
		request_send(r, result);
		/* the child sends what is queued, then reads the end of file and ends */
		request_close(r);
	}
	json_decref(result);
}

void request_refuse(struct request *r, const char *op, const char *error, const char *state)
{
	request_result(r, json_pack("{s:s, s:b, s:s, s:o, s:o}", "event", "result", "ok", 0, "op", op, "error",
				    json_text(error), "state", json_text(state)));
}

/* Anybody on the network can cause refusals, so the log gets only a line about all of them once in a while. */
static void requests_log_refused(struct requests *all, const char *why)
{
	int64_t now = now_us();

	all->refused++;
	if (all->refused_logged && now - all->refused_logged < REQUESTS_REFUSED_PAUSE)
		return;
	log_warn("%u requests were refused; the last: %s", all->refused, why);
	all->refused = 0;
	all->refused_logged = now;
}

static void request_on_message(void *arg)
{
	struct request *r = arg;
	char msg[1200], op[16];
	unsigned uid;
	ssize_t n = recv(r->sock.fd, msg, sizeof(msg) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		request_close(r);
		return;
	}
	msg[n] = '\0';
	if (strncmp(msg, "refused ", 8) == 0) {
		requests_log_refused(r->all, msg + 8);
		request_close(r);
	} else if (!r->asked && sscanf(msg, "%15s %u", op, &uid) == 2) {
		r->asked = true;
		r->uid = uid;
		log_debug("request %s by uid %u", op, uid);
		r->all->ask(r->all->arg, r, op);
	}
}

static void requests_watch_listener(struct requests *all)
{
	int fd = all->listen.fd;

	loop_remove(all->job->loop, &all->listen);
	loop_add(all->job->loop, &all->listen, fd, requests_on_connection, all);
}

static bool request_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void request_on_end(void *arg, int status)
{
	struct request *r = arg;
	struct requests *all = r->all;

	/* a client that has closed its end at once has made a request all the same */
	while (r->sock.fd >= 0 && !r->asked && request_readable(r->sock.fd))
		request_on_message(r);
	request_close(r);
	all->gone(all->arg, r);
	r->pid = 0;
}

/* ---- the listening socket ---- */

static struct request *requests_free_slot(struct requests *all)
{
	struct request *oldest = NULL;

	for (int i = 0; i < REQUESTS_MAX; i++) {
		struct request *r = &all->slots[i];

		if (!r->pid)
			return r;
		if (!r->asked && (!oldest || r->since < oldest->since))
			oldest = r;
	}
	/* connections that ask nothing must not keep everybody else out */
	if (oldest)
		kill(oldest->pid, SIGKILL);
	return NULL;
}

static void requests_serve(struct requests *all, struct request *r, int client)
{
	struct conn_setup setup = { .client = client,
				    .job_id = all->job->task.job_id,
				    .uuid = all->job->task.uuid,
				    .munge_socket = all->job->conf.munge_socket,
				    .owner = all->job->task.uid,
				    .slurm_user = all->slurm_user };
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
	*r = (struct request){ .all = all, .pid = pid, .since = now_us() };
	loop_add(all->job->loop, &r->sock, sv[0], request_on_message, r);
	loop_watch(all->job->loop, &r->child, pid, request_on_end, r);
}

static void requests_on_resume(void *arg)
{
	requests_watch_listener(arg);
}

/* Leaves further connections in the listener's queue for the rest of the second. */
static bool requests_too_many(struct requests *all)
{
	int64_t now = now_us();
	int fd = all->listen.fd;

	if (now - all->burst_began > 1000000) {
		all->burst_began = now;
		all->burst = 0;
	}
	if (++all->burst <= REQUESTS_BURST_MAX)
		return false;
	loop_remove(all->job->loop, &all->listen);
	all->listen.fd = fd; /* still open, only not watched */
	loop_timer_set(all->job->loop, &all->resume, all->burst_began + 1000000, requests_on_resume, all);
	return true;
}

static void requests_on_connection(void *arg)
{
	struct requests *all = arg;
	struct request *r;

	if (requests_too_many(all))
		return;
	cleanup_close int client = accept4(all->listen.fd, NULL, NULL, SOCK_CLOEXEC);
	if (client < 0)
		return;
	r = requests_free_slot(all);
	if (r)
		requests_serve(all, r, client);
	else
		requests_log_refused(all, "as many requests as an agent serves at a time are under way");
}

static int requests_try_bind(const struct sockaddr *addr, socklen_t len, unsigned port)
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

/* Tries the ports of the range, beginning at one that depends on the job, so that the agents of a node do not all try
 * the same one first. */
static int requests_bind_in_range(const struct requests *all, const struct sockaddr *addr, socklen_t len)
{
	unsigned min = all->job->conf.port_min, n = all->job->conf.port_max - min + 1;

	if (!min)
		return requests_try_bind(addr, len, 0);
	for (unsigned i = 0; i < n; i++) {
		int fd = requests_try_bind(addr, len, min + (all->job->task.job_id + i) % n);

		if (fd >= 0 || errno != EADDRINUSE)
			return fd;
	}
	errno = EADDRINUSE;
	return -1;
}

static int requests_bind(const struct requests *all, const char *text)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY) };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	int fd = -1;

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		fd = requests_bind_in_range(all, (struct sockaddr *)&v4, sizeof(v4));
	else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		fd = requests_bind_in_range(all, (struct sockaddr *)&v6, sizeof(v6));
	else
		errno = EADDRNOTAVAIL;
	/* The node is behind NAT, or Slurm knows it by another name. Any interface will do, since every byte is
	 * authenticated. */
	if (fd < 0 && errno == EADDRNOTAVAIL)
		fd = requests_bind_in_range(all, (struct sockaddr *)&any, sizeof(any));
	return fd;
}

static void requests_listen_at(struct requests *all, const char *addr)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd = requests_bind(all, addr);

	if (fd < 0 || getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
		char *text = all->error;

		snprintf(text, sizeof(all->error),
			 "the agent cannot listen for requests (ports %u-%u): %s; only periodic checkpoints are made",
			 all->job->conf.port_min, all->job->conf.port_max, strerror(errno));
		log_error("%s", text);
		all->failed(all->arg);
		return;
	}
	all->port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
						   : ((struct sockaddr_in *)&ss)->sin_port);
	loop_add(all->job->loop, &all->listen, fd, requests_on_connection, all);
	all->listening(all->arg);
}

/* A name is looked up in a child: a resolver can block for long, and loads libraries. */
static int requests_resolve_main(void *arg, int out)
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

static void requests_on_resolved(void *arg, char *line)
{
	struct requests *all = arg;

	if (all->listen.fd < 0)
		requests_listen_at(all, line);
}

static void requests_on_resolve_end(void *arg, int status)
{
	struct requests *all = arg;

	if (all->listen.fd < 0)
		requests_listen_at(all, "");
}

static void requests_on_where(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct requests *all = arg;
	const char *addr = json_string_value(json_object_get(answer, "node_addr"));
	const json_t *user = json_object_get(answer, "slurm_uid");
	unsigned char bin[16];

	if (!ok)
		log_warn("Slurm's address of this node is not known (%s); listening on all interfaces", error);
	if (json_is_integer(user))
		all->slurm_user = (uid_t)json_integer_value(user);
	if (!addr || !addr[0] || inet_pton(AF_INET, addr, bin) == 1 || inet_pton(AF_INET6, addr, bin) == 1) {
		requests_listen_at(all, addr ? addr : "");
		return;
	}
	cleanup_free char *name = xstrdup(addr);
	struct proc_spec s = { .main = requests_resolve_main,
			       .main_arg = name,
			       .keep_fd = -1,
			       .timeout_s = 20,
			       .on_line = requests_on_resolved,
			       .on_end = requests_on_resolve_end,
			       .arg = all };
	if (proc_start(all->job->loop, &all->resolve, &s, NULL) < 0)
		requests_listen_at(all, "");
}

void requests_start(struct requests *all)
{
	all->slurm_user = 0;
	rpc_start(all->job->loop, &all->where, all->job->libexec, REQUESTS_WHERE_TIMEOUT, "get", all->job->task.job_id,
		  NULL, requests_on_where, all);
}

void requests_forget_start(struct requests *all)
{
	rpc_forget(&all->where);
}

void requests_stop(struct requests *all)
{
	int fd = all->listen.fd;

	rpc_forget(&all->where);
	proc_forget(&all->resolve);
	loop_timer_clear(all->job->loop, &all->resume);
	loop_remove(all->job->loop, &all->listen);
	if (fd >= 0)
		close(fd);
	/* those who have not asked yet get no answer any more */
	for (int i = 0; i < REQUESTS_MAX; i++)
		if (all->slots[i].pid && !all->slots[i].asked)
			kill(all->slots[i].pid, SIGKILL);
}

bool requests_idle(const struct requests *all)
{
	for (int i = 0; i < REQUESTS_MAX; i++)
		if (all->slots[i].pid)
			return false;
	return true;
}
