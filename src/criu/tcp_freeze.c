#include "criu/tcp_freeze.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/proc.h"
#include "base/util.h"
#include "criu/criu_internal.h"
#include "preload/tcp_closed.h"
#include "preload/tcp_filter.h"
#include "preload/unlinked_names.h"

#ifndef SIOCOUTQNSD
#define SIOCOUTQNSD 0x894B
#endif

#define INIT_PID   1
#define FIRST_US   100  /* first pause between two checks for data in flight */
#define LONGEST_US 2000 /* longest pause */

/* ---- one socket -------------------------------------------------------------- */

static int tcp_get_option(int sk, int level, int name, int missing)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(sk, level, name, &value, &len) ? missing : value;
}

static bool tcp_read_queues(int sk, struct tcp_queues *q)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	*q = (struct tcp_queues){ 0 };
	if (getsockopt(sk, IPPROTO_TCP, TCP_INFO, &info, &len))
		return false;
	q->state = info.tcpi_state;
	if (q->state == TCP_LISTEN)
		return true;
	return !ioctl(sk, SIOCINQ, &q->in) && !ioctl(sk, SIOCOUTQ, &q->out) && !ioctl(sk, SIOCOUTQNSD, &q->unsent);
}

/* Whether there is an error that the job has not seen yet. SO_ERROR would take it away. */
static bool tcp_has_error(int sk)
{
	struct pollfd p = { .fd = sk };

	return poll(&p, 1, 0) == 1 && p.revents & POLLERR;
}

typedef int end_fn(int sk, struct sockaddr *addr, socklen_t *len);

/* get: getsockname() or getpeername(). */
static struct tcp_end tcp_end_of(int sk, end_fn *get)
{
	struct tcp_end e = { .ip = { [10] = 0xff, [11] = 0xff } };
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = { 0 };
	socklen_t len = sizeof(a);

	if (get(sk, &a.any, &len))
		return e;
	if (a.any.sa_family == AF_INET) {
		memcpy(e.ip + 12, &a.v4.sin_addr, 4);
		e.port = ntohs(a.v4.sin_port);
	} else if (a.any.sa_family == AF_INET6) {
		memcpy(e.ip, &a.v6.sin6_addr, 16);
		e.port = ntohs(a.v6.sin6_port);
	}
	return e;
}

static bool tcp_freeze_has_filter(int sk, bool *any)
{
	struct sock_filter got[TCP_FILTER_LEN];
	socklen_t len = 0;

	*any = !getsockopt(sk, SOL_SOCKET, SO_GET_FILTER, got, &len) && len > 0;
	return *any && len == TCP_FILTER_LEN && !getsockopt(sk, SOL_SOCKET, SO_GET_FILTER, got, &len) &&
	       tcp_filter_is(got);
}

/* Removes the filter and ends repair mode, in which a dump that was killed has left the socket. reuse: SO_REUSEADDR of
 * the job. */
static void tcp_reset_socket(int sk, int reuse)
{
	const int off = 0;
	bool any;

	if (tcp_freeze_has_filter(sk, &any))
		setsockopt(sk, SOL_SOCKET, SO_DETACH_FILTER, &off, sizeof(off));
	if (tcp_get_option(sk, IPPROTO_TCP, TCP_REPAIR, 0) != 1)
		return;
	/* In the same way as criu. Repair mode has overwritten SO_REUSEADDR. */
	setsockopt(sk, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
	setsockopt(sk, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
}

/* ---- all sockets -------------------------------------------------------------- */

static int tcp_compare_inodes(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Calls fn once for each TCP socket of the pod. */
typedef void visit_fn(void *arg, pid_t pid, int fd, uint64_t ino, int sk);
struct walk {
	pid_t criu;
	void *seen;
	visit_fn *fn;
	void *arg;
};

/* Returns false if the socket was seen before. */
static bool tcp_walk_note_seen(struct walk *w, uint64_t ino)
{
	uint64_t *key = xmalloc(sizeof(*key)), **at;

	*key = ino;
	at = tsearch(key, &w->seen, tcp_compare_inodes);
	if (at && *at == key)
		return true;
	free(key);
	return false;
}

static void tcp_walk_process(struct walk *w, pid_t pid)
{
	cleanup_close int pidfd = -1;
	cleanup_dir DIR *dir = NULL;
	struct dirent *e;
	char path[64], link[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		const ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		unsigned long long ino;
		int sk;

		if (n <= 0)
			continue;
		link[n] = '\0';
		if (sscanf(link, "socket:[%llu]", &ino) != 1 || !tcp_walk_note_seen(w, ino))
			continue;
		if (pidfd < 0)
			pidfd = pidfd_open(pid, 0);
		sk = pidfd < 0 ? -1 : pidfd_getfd(pidfd, atoi(e->d_name), 0);
		if (sk < 0)
			continue; /* it has ended */
		if (tcp_get_option(sk, SOL_SOCKET, SO_PROTOCOL, 0) == IPPROTO_TCP)
			w->fn(w->arg, pid, atoi(e->d_name), ino, sk);
		close(sk);
	}
}

static int tcp_walk(struct walk *w, struct err *err)
{
	cleanup_dir DIR *dir = opendir("/proc");
	struct dirent *e;
	char *end;

	if (!dir)
		return err_sys(err, errno, "cannot read the pod's /proc");
	while ((e = readdir(dir))) {
		const long pid = strtol(e->d_name, &end, 10);

		if (pid > INIT_PID && !*end && pid != getpid() && pid != w->criu)
			tcp_walk_process(w, (pid_t)pid);
	}
	tdestroy(w->seen, free);
	return 0;
}

static void tcp_collect_socket(void *arg, pid_t pid, int fd, uint64_t ino, int sk)
{
	struct tcp_sockets *s = arg;
	struct tcp_queues q;

	if (!tcp_read_queues(sk, &q) || q.state == TCP_LISTEN)
		return;
	tcp_reset_socket(sk, 0);
	array_reserve(s->v, s->n, s->room);
	s->v[s->n++] = (struct tcp_socket){
		.ino = ino,
		.pid = pid,
		.fd = fd,
		.reuse = tcp_get_option(sk, SOL_SOCKET, SO_REUSEADDR, 0),
		.local = tcp_end_of(sk, getsockname),
		.remote = tcp_end_of(sk, getpeername),
		.failed = q.state == TCP_CLOSE && tcp_has_error(sk),
		.queues = q,
	};
}

int tcp_collect(struct tcp_sockets *s, pid_t criu, struct err *err)
{
	struct walk w = { .criu = criu, .fn = tcp_collect_socket, .arg = s };

	*s = (struct tcp_sockets){ 0 };
	if (tcp_walk(&w, err))
		return -1;
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), tcp_compare_inodes);
	return 0;
}

void tcp_free(struct tcp_sockets *s)
{
	free(s->v);
	*s = (struct tcp_sockets){ 0 };
}

/* Returns a descriptor for the socket, -1 if its process or descriptor has gone. */
static int tcp_borrow(const struct tcp_socket *t)
{
	cleanup_close int pidfd = pidfd_open(t->pid, 0);

	return pidfd < 0 ? -1 : pidfd_getfd(pidfd, t->fd, 0);
}

/* ---- connections that leave the job --------------------------------------------- */

/* The ends of a connection, as one of them sees it. */
struct tcp_pair {
	struct tcp_end local, remote;
};

static struct tcp_pair tcp_pair_of(const struct tcp_end *local, const struct tcp_end *remote)
{
	struct tcp_pair p;

	memset(&p, 0, sizeof(p)); /* compared as bytes */
	p.local = *local;
	p.remote = *remote;
	return p;
}

static int tcp_compare_pairs(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct tcp_pair));
}

static bool tcp_end_is_local(const struct tcp_socket *t)
{
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff }, loopback[16] = { [15] = 1 };
	const uint8_t *ip = t->remote.ip;

	return (!memcmp(ip, v4, sizeof(v4)) && ip[12] == 127) || !memcmp(ip, loopback, sizeof(loopback)) ||
	       !memcmp(ip, t->local.ip, sizeof(t->local.ip));
}

static bool tcp_is_foreign(const struct tcp_socket *t, const struct tcp_pair *all, size_t n, bool close)
{
	const struct tcp_pair other = tcp_pair_of(&t->remote, &t->local);

	if (t->failed)
		return close;
	if (!t->remote.port || (tcp_end_is_local(t) && (!close || t->queues.state == TCP_CLOSE_WAIT)))
		return false;
	return !bsearch(&other, all, n, sizeof(other), tcp_compare_pairs);
}

void tcp_split_foreign(struct tcp_sockets *s, struct tcp_sockets *foreign, bool close)
{
	cleanup_free struct tcp_pair *all = xcalloc(s->n + 1, sizeof(*all));
	const size_t n = s->n;

	*foreign = (struct tcp_sockets){ 0 };
	for (size_t i = 0; i < n; i++)
		all[i] = tcp_pair_of(&s->v[i].local, &s->v[i].remote);
	qsort(all, n, sizeof(*all), tcp_compare_pairs);
	s->n = 0;
	for (size_t i = 0; i < n; i++) {
		const struct tcp_socket t = s->v[i];

		if (!tcp_is_foreign(&t, all, n, close)) {
			s->v[s->n++] = t;
			continue;
		}
		array_reserve(foreign->v, foreign->n, foreign->room);
		foreign->v[foreign->n++] = t;
	}
}

/* "10.0.0.2:7001", "[2001:db8::2]:7001" */
static void tcp_end_text(const struct tcp_end *e, char *buf, size_t len)
{
	char ip[INET6_ADDRSTRLEN];

	if (!e->port) {
		snprintf(buf, len, "an end that has closed it");
		return;
	}
	inet_ntop(AF_INET6, e->ip, ip, sizeof(ip));
	if (!strncmp(ip, "::ffff:", 7))
		snprintf(buf, len, "%s:%u", ip + 7, e->port);
	else
		snprintf(buf, len, "[%s]:%u", ip, e->port);
}

int tcp_close_foreign(const struct tcp_sockets *foreign, int names_fd, struct err *err)
{
	if (foreign->n > TCP_CLOSED_MAX)
		return err_set(err, E2BIG, "the job has more than %d TCP connections to other hosts", TCP_CLOSED_MAX);
	for (size_t i = 0; i < foreign->n; i++) {
		const struct tcp_socket *t = &foreign->v[i];
		struct unlinked_name e = { .ino = t->ino, .deleted = UNLINKED_NAME_CLOSED };
		char to[INET6_ADDRSTRLEN + 16], who[PROC_DESCRIBED];
		cleanup_free char *text = NULL;

		tcp_end_text(&t->remote, to, sizeof(to));
		text = xasprintf("descriptor %d of %s to %s", t->fd, proc_describe(t->pid, who, sizeof(who)), to);
		e.len = (uint32_t)strlen(text);
		if (write_all(names_fd, &e, sizeof(e)) || write_all(names_fd, text, e.len))
			return err_sys(err, errno, "cannot hand criu the list of connections");
	}
	return 0;
}

int tcp_refuse_foreign(const struct tcp_sockets *foreign, struct err *err)
{
	char to[INET6_ADDRSTRLEN + 16], who[PROC_DESCRIBED];

	if (!foreign->n)
		return 0;
	tcp_end_text(&foreign->v[0].remote, to, sizeof(to));
	return err_set(err, 0, "%s has opened a TCP connection to another host, %s, since the job was checked",
		       proc_describe(foreign->v[0].pid, who, sizeof(who)), to);
}

/* ---- data in flight ------------------------------------------------------------- */

/* A receiver may delay an acknowledgement for up to 200 ms, and so delay data that the other end has not sent yet
 * (Nagle's algorithm). An even value sends the acknowledgement without a change of the mode. */
static void tcp_acknowledge(int sk)
{
	const int value = tcp_get_option(sk, IPPROTO_TCP, TCP_QUICKACK, 0) ? 1 : 2;

	setsockopt(sk, IPPROTO_TCP, TCP_QUICKACK, &value, sizeof(value));
}

static void tcp_acknowledge_all(const struct tcp_sockets *s)
{
	for (size_t i = 0; i < s->n; i++) {
		cleanup_close int sk = tcp_borrow(&s->v[i]);

		if (sk >= 0)
			tcp_acknowledge(sk);
	}
}

/* Reads all queues, and returns the number of bytes that were sent and not acknowledged. */
static int tcp_bytes_in_flight(struct tcp_sockets *s)
{
	int sum = 0;

	for (size_t i = 0; i < s->n; i++) {
		cleanup_close int sk = tcp_borrow(&s->v[i]);
		struct tcp_queues *q = &s->v[i].queues;

		if (sk >= 0 && tcp_read_queues(sk, q) && q->state != TCP_CLOSE && q->state != TCP_SYN_SENT)
			sum += q->out - q->unsent;
	}
	return sum;
}

void tcp_drain(struct tcp_sockets *s, int max_ms)
{
	const int64_t end = now_us() + (int64_t)max_ms * 1000;
	useconds_t pause = FIRST_US;

	while (tcp_bytes_in_flight(s) > 0 && now_us() < end) {
		tcp_acknowledge_all(s);
		usleep(pause);
		pause = pause < LONGEST_US ? 2 * pause : pause;
	}
}

void tcp_block(struct tcp_sockets *s)
{
	const struct sock_fprog p = { TCP_FILTER_LEN, (struct sock_filter *)(uintptr_t)tcp_filter };
	bool any;

	for (size_t i = 0; i < s->n; i++) {
		cleanup_close int sk = -1;

		/* Without a connection (before connect(), after a reset) nothing arrives, and criu uses no repair mode,
		 * at whose end the library removes the filter. */
		if (s->v[i].queues.state == TCP_CLOSE)
			continue;
		sk = tcp_borrow(&s->v[i]);
		/* A socket that has a filter of the job is not blocked; tcp_unchanged() detects if data arrives. */
		if (sk >= 0 && !tcp_freeze_has_filter(sk, &any) && !any)
			setsockopt(sk, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p));
	}
	tcp_bytes_in_flight(s);
}

bool tcp_unchanged(const struct tcp_sockets *s, struct err *err)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct tcp_socket *t = &s->v[i];
		cleanup_close int sk = tcp_borrow(t);
		struct tcp_queues q = { 0 };

		if (sk >= 0 && tcp_read_queues(sk, &q) && q.state == t->queues.state && q.in == t->queues.in &&
		    q.out == t->queues.out)
			continue;
		err_set(err, EAGAIN,
			"data of a TCP connection of the job (descriptor %d of its process %d) was still on its way while it "
			"was saved",
			t->fd, (int)t->pid);
		return false;
	}
	return true;
}

/* ---- guard ---------------------------------------------------------------------- */

static void tcp_release_socket(void *arg, pid_t pid, int fd, uint64_t ino, int sk)
{
	const struct tcp_sockets *s = arg;
	const struct tcp_socket *t = s->n ? bsearch(&ino, s->v, s->n, sizeof(*s->v), tcp_compare_inodes) : NULL;

	(void)pid;
	(void)fd;
	tcp_reset_socket(sk, t ? t->reuse : 0);
}

/* True if the pod is being killed. Then its sockets stay as they are, so that they send nothing to each other and leave
 * no address in use. */
static bool tcp_pod_is_ending(void)
{
	cleanup_free char *text = NULL;
	unsigned flags = 0;
	char *rest;

	if (read_file_at(AT_FDCWD, "/proc/1/stat", 4096, &text) <= 0)
		return true;
	rest = strrchr(text, ')');
	return !rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1 || (flags & 0x4 /* PF_EXITING */);
}

static bool tcp_criu_ended_well(pid_t criu)
{
	unsigned long status = 1;

	return ptrace(PTRACE_GETEVENTMSG, criu, NULL, &status) == 0 && status == 0;
}

static void tcp_guard_at_exit(pid_t criu, const struct tcp_sockets *s)
{
	struct walk w = { .criu = criu, .fn = tcp_release_socket, .arg = (void *)(uintptr_t)s };

	/* If criu has ended well, it has ended repair mode itself, and the job runs. */
	if (!tcp_criu_ended_well(criu) && !tcp_pod_is_ending())
		tcp_walk(&w, NULL);
	ptrace(PTRACE_DETACH, criu, NULL, NULL);
}

static _Noreturn void tcp_guard_main(pid_t criu, const struct tcp_sockets *s)
{
	int status;

	for (;;) {
		if (waitpid(criu, &status, __WALL) < 0) {
			if (errno == EINTR)
				continue;
			_exit(0);
		}
		if (!WIFSTOPPED(status))
			_exit(0);
		switch (status >> 16) {
		case PTRACE_EVENT_EXIT: tcp_guard_at_exit(criu, s); _exit(0);
		case PTRACE_EVENT_STOP:
			/* It was stopped by a signal, or continues. */
			ptrace(WSTOPSIG(status) == SIGTRAP ? PTRACE_CONT : PTRACE_LISTEN, criu, NULL, NULL);
			break;
		default: ptrace(PTRACE_CONT, criu, NULL, (void *)(uintptr_t)WSTOPSIG(status));
		}
	}
}

pid_t tcp_guard(pid_t criu, const struct tcp_sockets *s, struct err *err)
{
	int ready[2], failed = ECHILD;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		return err_sys(err, errno, "cannot make a pipe");
	pid = fork();
	if (pid == 0) {
		/* Other code identifies processes by their open descriptors, so the guard must have none. */
		if (dup2(ready[1], 0) < 0)
			_exit(1);
		close_range(1, ~0U, 0);
		failed = ptrace(PTRACE_SEIZE, criu, NULL, (void *)PTRACE_O_TRACEEXIT) ? errno : 0;
		if (write(0, &failed, sizeof(failed)) != sizeof(failed) || failed)
			_exit(1);
		close(0);
		tcp_guard_main(criu, s);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &failed, sizeof(failed)) != sizeof(failed))
		failed = ECHILD;
	close(ready[0]);
	if (pid > 0 && failed == 0)
		return pid;
	err_sys(err, pid < 0 ? errno : failed, "cannot watch over criu, which the job's TCP connections need");
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return -1;
}
