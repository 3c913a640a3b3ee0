/* Preflight: TCP connections. */
#include "pod/preflight_internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/proc.h"
#include "base/util.h"
#include "pod/preflight.h"

/* A line of /proc/PID/net/tcp or tcp6. */
struct tcp {
	unsigned long inode; /* 0: no process has it. It waits to be accepted, or it was closed */
	unsigned state;
	uint8_t local[16], remote[16]; /* IPv4 as ::ffff:a.b.c.d */
	unsigned local_port, remote_port;
};

struct tcp_table {
	struct tcp *v;
	size_t n, room;
};

static bool addr_is_any(const uint8_t *a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i])
			return false;
	return true;
}

/* Parses an address of /proc/net/tcp: groups of eight hexadecimal digits, each group a word in host byte order. */
static bool tcp_parse_addr(const char *hex, uint8_t *addr)
{
	size_t groups = strlen(hex) / 8;
	uint32_t word;

	if (groups != 1 && groups != 4)
		return false;
	memset(addr, 0, 16);
	if (groups == 1)
		addr[10] = addr[11] = 0xff;
	for (size_t i = 0; i < groups; i++) {
		if (sscanf(hex + 8 * i, "%8x", &word) != 1)
			return false;
		memcpy(addr + (groups == 1 ? 12 : 4 * i), &word, 4);
	}
	return true;
}

static bool tcp_parse_line(const char *line, struct tcp *t)
{
	char local[40], remote[40];

	return sscanf(line, " %*d: %39[0-9A-F]:%x %39[0-9A-F]:%x %x %*s %*s %*s %*d %*d %lu", local, &t->local_port,
		      remote, &t->remote_port, &t->state, &t->inode) == 6 &&
	       tcp_parse_addr(local, t->local) && tcp_parse_addr(remote, t->remote);
}

static void tcp_read_table(const struct preflight_scan *s, const char *file, struct tcp_table *table)
{
	cleanup_file FILE *f = NULL;
	cleanup_free char *line = NULL;
	char path[64];
	size_t cap = 0;
	struct tcp t;
	int fd;

	snprintf(path, sizeof(path), "%d/net/%s", s->leader, file);
	fd = openat(s->proc, path, O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && getline(&line, &cap, f) > 0) {
		if (!tcp_parse_line(line, &t))
			continue;
		array_reserve(table->v, table->n, table->room);
		table->v[table->n++] = t;
	}
}

static int socket_owner_compare(const void *a, const void *b)
{
	const struct socket_owner *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static pid_t socket_owner_pid(const struct preflight_scan *s, unsigned long inode)
{
	const struct socket_owner key = { inode, 0 };
	const struct socket_owner *o = bsearch(&key, s->sockets, s->n_sockets, sizeof(key), socket_owner_compare);

	return o ? o->pid : 0;
}

static bool addr_is_v4(const uint8_t *a)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	return !memcmp(a, mapped, 12);
}

static bool addr_is_loopback(const uint8_t *a)
{
	if (addr_is_v4(a))
		return a[12] == 127;
	return addr_is_any(a, 15) && a[15] == 1;
}

static bool tcp_is_reverse(const struct tcp *a, const struct tcp *b)
{
	return a->local_port == b->remote_port && a->remote_port == b->local_port && !memcmp(a->local, b->remote, 16) &&
	       !memcmp(a->remote, b->local, 16);
}

/* Whether the address is one of the node's. A job with a network of its own reaches the agent by such an address. */
static bool addr_is_of_node(const uint8_t *a)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all))
		return false;
	for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET)
			found = addr_is_v4(a) &&
				!memcmp(&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, a + 12, 4);
		else if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6)
			found = !memcmp(&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, a, 16);
	}
	freeifaddrs(all);
	return found;
}

static const struct tcp *tcp_other_end(const struct tcp_table *table, const struct tcp *t)
{
	for (size_t i = 0; i < table->n; i++)
		if (tcp_is_reverse(&table->v[i], t))
			return &table->v[i];
	return NULL;
}

static bool tcp_listens(const struct tcp *t)
{
	return t->remote_port == 0;
}

/* The end that a process of the job is to accept. Whether it is one of the job can be told by the port alone. */
static bool tcp_is_not_accepted(const struct preflight_scan *s, const struct tcp_table *table, const struct tcp *t)
{
	if (!t || t->inode || (t->state != TCP_ESTABLISHED && t->state != TCP_SYN_RECV))
		return false;
	for (size_t i = 0; i < table->n; i++)
		if (tcp_listens(&table->v[i]) && table->v[i].local_port == t->local_port &&
		    socket_owner_pid(s, table->v[i].inode))
			return true;
	return false;
}

/* Whether nobody has the other end of a local connection any more. Its socket stays for a while after it was closed. */
static bool tcp_is_left(const struct tcp *t, const struct tcp *peer)
{
	return t->state == TCP_CLOSE_WAIT && (!peer || !peer->inode);
}

static int tcp_check_connection(const struct preflight_scan *s, const struct tcp_table *table, const struct tcp *t,
				const struct preflight_job *job, struct err *err)
{
	bool local = addr_is_loopback(t->remote) || !memcmp(t->local, t->remote, 16);
	pid_t pid = socket_owner_pid(s, t->inode);
	char addr[INET6_ADDRSTRLEN], what[160], who[160];
	const struct tcp *peer;

	if (!pid || tcp_listens(t))
		return 0;
	if (job->agent_port > 0 && t->remote_port == (unsigned)job->agent_port && (local || addr_is_of_node(t->remote)))
		return err_set(err, PREFLIGHT_ASKER,
			       "a job cannot checkpoint itself: the request comes from inside the job, %s; "
			       "send it from a login node or from another job",
			       proc_describe(pid, who, sizeof(who)));
	peer = local ? tcp_other_end(table, t) : NULL;
	if (tcp_is_not_accepted(s, table, peer))
		return preflight_refuse(pid, err, "has a TCP connection within the job that waits to be accepted",
					"try again");
	if (job->tcp_close || (peer && socket_owner_pid(s, peer->inode)) || (local && tcp_is_left(t, peer)))
		return 0;
	inet_ntop(AF_INET6, t->remote, addr, sizeof(addr));
	snprintf(what, sizeof(what), "has a TCP connection to %s%s port %u",
		 local ? "a process outside of the job, " : "another host, ",
		 strncmp(addr, "::ffff:", 7) ? addr : addr + 7, t->remote_port);
	return preflight_refuse(pid, err, what, "close it and try again, or submit the job with --checkpoint-tcp=close");
}

int preflight_tcp(struct preflight_scan *s, struct err *err)
{
	struct tcp_table table = { 0 };
	int rc = 0;

	if (s->n_sockets == 0)
		return 0;
	qsort(s->sockets, s->n_sockets, sizeof(*s->sockets), socket_owner_compare);
	tcp_read_table(s, "tcp", &table);
	tcp_read_table(s, "tcp6", &table);
	for (size_t i = 0; i < table.n && rc == 0; i++)
		rc = tcp_check_connection(s, &table, &table.v[i], s->job, err);
	free(table.v);
	return rc;
}
