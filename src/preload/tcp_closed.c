/* Part of libfsched-criu.so: TCP connections that leave the job and are closed in the restored job.
 *
 * In a dump the file of names (unlinked_names.h) lists their sockets. The library hides from criu that they are
 * connected: criu finds them in no answer of the kernel's socket diagnosis, and saves each as a socket that was never
 * connected. So criu does nothing to the connection, and the job goes on with it. The image of such a socket has a
 * mark (SO_MARK) that no process of a job can set.
 *
 * In a restore, criu sets the mark, and the library closes the socket in place of that: it connects the socket to one
 * of its own on the loopback, which resets the connection. So the kernel itself puts the socket into the state that it
 * has when the other end is gone: read() fails with ECONNRESET and then returns 0, write() fails with EPIPE, poll() and
 * epoll report POLLERR and POLLHUP. An end of the stream in place of the error would let a program take a part of an
 * answer for all of it. */
#include "preload/tcp_closed.h"

#include <asm/stat.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "preload/unlinked_names.h"
#include "trace/raw_syscall.h"

#define SOL_SOCK       1
#define SOL_TCP        6
#define PEERNAME       28 /* SO_PEERNAME */
#define MARK           36 /* SO_MARK */
#define DOMAIN         39 /* SO_DOMAIN */
#define LINGER         13 /* SO_LINGER */
#define INFO           11 /* TCP_INFO */
#define INFO_STATE     0  /* bytes of struct tcp_info */
#define INFO_BACKOFF   4
#define STATE_CLOSE    7
#define CLOSED_MARK    0xf5c1d0edu
#define INET           2
#define INET6          10
#define STREAM         1
#define STREAM_CLOEXEC (STREAM | O_CLOEXEC)
#define EVENT_IN       0x0001
#define EVENT_OUT      0x0004
#define EVENT_ERR      0x0008
#define EVENT_HUP      0x0010
#define EVENT_RDHUP    0x2000
#define WAIT_SECONDS   5
#define STRANGERS_MAX  64 /* connections of others that may come in place of ours */

struct poll {
	int fd;
	short events, revents;
};

struct vector {
	void *base;
	unsigned long len;
};

/* struct msghdr of the C library, which is that of the kernel on 64-bit machines */
struct message {
	void *name;
	unsigned name_len;
	struct vector *parts;
	unsigned long n_parts;
	void *control;
	unsigned long control_len;
	int flags;
};

/* struct sockaddr_in and sockaddr_in6 */
union address {
	struct {
		uint16_t family, port;
		uint8_t ip[4], zero[8];
	} v4;
	struct {
		uint16_t family, port;
		uint32_t flow;
		uint8_t ip[16];
		uint32_t scope;
	} v6;
};

static int names_fd = -1;
static uint64_t closed[TCP_CLOSED_MAX]; /* inodes */
static unsigned n_closed;

__attribute__((constructor)) static void tcp_closed_begin(int argc, char **argv, char **envp)
{
	const char *value;

	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if ((value = preload_after(*envp, "FSCHED_NAMES=")))
			names_fd = (int)preload_number(&value, 1 << 30);
}

/* poll(), which not all machines have as a system call. seconds -1: no limit. */
static long tcp_closed_poll(struct poll *p, unsigned long n, long seconds, long nanoseconds)
{
	struct {
		long seconds, nanoseconds;
	} time = { seconds, nanoseconds };

	return raw_syscall(SYS_ppoll, (long)p, (long)n, seconds < 0 ? 0 : (long)&time, 0, 0, 0);
}

/* ---- dump ------------------------------------------------------------------------ */

/* The driver has written all entries before criu asks for the first socket. */
static void tcp_closed_load(void)
{
	struct unlinked_name e;

	for (long at = 0; raw_syscall(SYS_pread64, names_fd, (long)&e, sizeof(e), at, 0, 0) == (long)sizeof(e);
	     at += (long)sizeof(e) + e.len)
		if (e.deleted == UNLINKED_NAME_CLOSED && n_closed < TCP_CLOSED_MAX)
			closed[n_closed++] = e.ino;
}

static bool tcp_closed_has(uint64_t ino)
{
	for (unsigned i = 0; i < n_closed; i++)
		if (closed[i] == ino)
			return true;
	return false;
}

static bool tcp_closed_is(int sk)
{
	struct statx st;

	return n_closed && preload_statx(sk, "", STATX_INO, &st) && tcp_closed_has(st.stx_ino);
}

/* Takes the inode out of the kernel's description of a socket. criu finds sockets by their inodes. */
static void tcp_closed_hide(char *buf, long n)
{
	if (n >= (long)sizeof(struct nlmsghdr) && !n_closed)
		tcp_closed_load();
	for (long at = 0; n_closed && at + (long)sizeof(struct nlmsghdr) <= n;) {
		const struct nlmsghdr *h = (void *)(buf + at);
		struct inet_diag_msg *m = (void *)(buf + at + NLMSG_HDRLEN);

		if (h->nlmsg_len < NLMSG_HDRLEN || h->nlmsg_len > n - at)
			return;
		if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && h->nlmsg_len >= NLMSG_HDRLEN + sizeof(*m) &&
		    (m->idiag_family == INET || m->idiag_family == INET6) && tcp_closed_has(m->idiag_inode))
			m->idiag_inode = 0;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
}

EXPORT long recvmsg(int sk, struct message *m, int flags);
EXPORT int getsockname(int sk, void *addr, unsigned *len);
EXPORT int poll(struct poll *p, unsigned long n, int ms);

long recvmsg(int sk, struct message *m, int flags)
{
	long n = raw_syscall(SYS_recvmsg, sk, (long)m, flags, 0, 0, 0);
	const struct nlmsghdr *h = m->n_parts == 1 ? m->parts[0].base : NULL;

	if (names_fd >= 0 && n >= (long)sizeof(*h) && h && m->name &&
	    *(const uint16_t *)m->name == 16 /* AF_NETLINK */ && h->nlmsg_type == SOCK_DIAG_BY_FAMILY)
		tcp_closed_hide(m->parts[0].base, n);
	return errno_result(n);
}

int getsockname(int sk, void *addr, unsigned *len)
{
	return (int)errno_result(tcp_closed_is(sk) ? -ENOTCONN
						   : raw_syscall(SYS_getsockname, sk, (long)addr, (long)len, 0, 0, 0));
}

/* criu asks a socket without a connection if its reading half is shut down. */
int poll(struct poll *p, unsigned long n, int ms)
{
	if (n == 1 && ms == 0 && p->events == (EVENT_HUP | EVENT_RDHUP) && tcp_closed_is(p->fd)) {
		p->revents = EVENT_HUP;
		return 1;
	}
	return (int)errno_result(tcp_closed_poll(p, n, ms < 0 ? -1 : ms / 1000, ms % 1000 * 1000000L));
}

static long tcp_closed_info(int sk, void *value, unsigned *len)
{
	long ret = raw_syscall(SYS_getsockopt, sk, SOL_TCP, INFO, (long)value, (long)len, 0);
	uint8_t *info = value;

	if (ret >= 0 && *len > INFO_BACKOFF) {
		info[INFO_STATE] = STATE_CLOSE;
		info[INFO_BACKOFF] = 0;
	}
	return ret;
}

bool tcp_closed_getsockopt(int sk, int level, int name, void *value, unsigned *len, long *ret)
{
	const bool peer = level == SOL_SOCK && name == PEERNAME, mark = level == SOL_SOCK && name == MARK,
		   info = level == SOL_TCP && name == INFO;

	if (!(peer || mark || info) || !tcp_closed_is(sk))
		return false;
	*ret = peer ? -ENOTCONN : info ? tcp_closed_info(sk, value, len) : 0;
	if (mark && *len >= sizeof(unsigned))
		*(unsigned *)value = CLOSED_MARK;
	return true;
}

/* ---- restore --------------------------------------------------------------------- */

static bool tcp_closed_wait(int fd, short events)
{
	struct poll p = { fd, events, 0 };
	long n;

	do
		n = tcp_closed_poll(&p, 1, WAIT_SECONDS, 0);
	while (n == -EINTR);
	return n == 1;
}

static bool tcp_closed_same(const union address *a, const union address *b)
{
	const uint8_t *x = a->v4.family == INET ? a->v4.ip : a->v6.ip, *y = a->v4.family == INET ? b->v4.ip : b->v6.ip;
	const int n = a->v4.family == INET ? 4 : 16;

	for (int i = 0; i < n; i++)
		if (x[i] != y[i])
			return false;
	return a->v4.family == b->v4.family && a->v4.port == b->v4.port;
}

/* Takes the connection of sk, and no other, from the listening socket, and resets it. */
static bool tcp_closed_reset(int listener, int sk)
{
	static const struct {
		int on, seconds;
	} at_once = { 1, 0 };
	union address own, from;
	unsigned n = sizeof(own);
	bool found = false;

	if (raw_syscall(SYS_getsockname, sk, (long)&own, (long)&n, 0, 0, 0) < 0)
		return false;
	for (int i = 0; i < STRANGERS_MAX && !found && tcp_closed_wait(listener, EVENT_IN); i++) {
		long end;

		n = sizeof(from);
		end = raw_syscall(SYS_accept4, listener, (long)&from, (long)&n, O_CLOEXEC, 0, 0);
		if (end < 0)
			continue;
		found = tcp_closed_same(&own, &from);
		raw_syscall(SYS_setsockopt, end, SOL_SOCK, LINGER, (long)&at_once, sizeof(at_once), 0);
		raw_syscall(SYS_close, end, 0, 0, 0, 0, 0);
	}
	return found && tcp_closed_wait(sk, EVENT_ERR | EVENT_HUP);
}

/* addr: of the loopback, with port 0. */
static bool tcp_closed_through(int sk, union address *addr)
{
	unsigned len = addr->v4.family == INET ? sizeof(addr->v4) : sizeof(addr->v6);
	long listener = raw_syscall(SYS_socket, addr->v4.family, STREAM_CLOEXEC, 0, 0, 0, 0), ret = -1;

	if (listener < 0)
		return false;
	if (raw_syscall(SYS_bind, listener, (long)addr, len, 0, 0, 0) >= 0 &&
	    raw_syscall(SYS_listen, listener, STRANGERS_MAX, 0, 0, 0, 0) >= 0 &&
	    raw_syscall(SYS_getsockname, listener, (long)addr, (long)&len, 0, 0, 0) >= 0)
		ret = raw_syscall(SYS_connect, sk, (long)addr, len, 0, 0, 0);
	if (ret == -EINPROGRESS)
		ret = tcp_closed_wait(sk, EVENT_OUT) ? 0 : -1;
	ret = ret >= 0 && tcp_closed_reset((int)listener, sk);
	raw_syscall(SYS_close, listener, 0, 0, 0, 0, 0);
	return ret;
}

static bool tcp_closed_close(int sk)
{
	union address v4 = { .v4 = { .family = INET, .ip = { 127, 0, 0, 1 } } };
	union address v6 = { .v6 = { .family = INET6, .ip = { [15] = 1 } } };
	union address mapped = { .v6 = { .family = INET6, .ip = { [10] = 0xff, 0xff, 127, 0, 0, 1 } } };
	unsigned n = sizeof(int);
	int family = 0;

	raw_syscall(SYS_getsockopt, sk, SOL_SOCK, DOMAIN, (long)&family, (long)&n, 0);
	if (family == INET)
		return tcp_closed_through(sk, &v4);
	/* There may be no IPv6, not even on the loopback. */
	return family == INET6 && (tcp_closed_through(sk, &v6) || tcp_closed_through(sk, &mapped));
}

bool tcp_closed_setsockopt(int sk, int level, int name, const void *value, unsigned len, long *ret)
{
	static const char text[] = "Error (fsched): a TCP connection cannot be closed by way of the loopback\n";
	long flags;

	if (names_fd >= 0 || level != SOL_SOCK || name != MARK || len != sizeof(unsigned) ||
	    *(const unsigned *)value != CLOSED_MARK)
		return false;
	/* criu has set the job's flags. */
	flags = raw_syscall(SYS_fcntl, sk, F_GETFL, 0, 0, 0, 0);
	raw_syscall(SYS_fcntl, sk, F_SETFL, flags | O_NONBLOCK, 0, 0, 0);
	*ret = tcp_closed_close(sk) ? 0 : -ECONNRESET;
	raw_syscall(SYS_fcntl, sk, F_SETFL, flags, 0, 0, 0);
	if (*ret < 0)
		raw_syscall(SYS_write, 2, (long)text, sizeof(text) - 1, 0, 0, 0);
	return true;
}
