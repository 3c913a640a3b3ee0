/* Part of libfsched-criu.so: TCP connections. Both ends of each connection are in the job; for others see tcp_closed.c.
 *
 * While a socket is saved or restored, a socket filter (tcp_filter.h) keeps segments from it. A filter needs no
 * firewall and no namespace, and the kernel removes it with the socket.
 *
 * In a dump criu's driver attaches the filters before criu looks at the sockets (criu/tcp_freeze.h). The library hides
 * them from criu, and detaches them when criu ends the repair mode of a socket.
 *
 * In a restore one end of a connection exists before the other. What it sends then, also its answer to a segment that
 * criu makes to restore the end of a stream (FIN), goes to an end that does not exist, and the kernel's reset would
 * break the connection. So every socket has a filter from its start, until criu's action "post-restore" tells that all
 * sockets exist. They are in repair mode then, and the processes have not run yet.
 *
 * A socket also sends a window probe when criu ends its repair mode for a short time. Ending it with -1 instead of 0
 * avoids the probe. Nothing else is sent: a repaired connect() keeps the window closed until criu has restored it.
 *
 * The kernel computes the size of segments in the repaired connect(), before criu has restored the limit that the two
 * ends had agreed on, and not again as long as the route keeps its MTU: a restored connection would send segments of
 * 524 bytes for ever. It computes it again when the IP options of the socket are set, here to none, as they were. */
#include <linux/fcntl.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "trace/raw_syscall.h"
#include "preload/rights.h"
#include "preload/tcp_filter.h"

#define SOL_SOCK       1
#define SOL_IP         0
#define SOL_TCP        6
#define ATTACH_FILTER  26 /* with getsockopt(): the filter that there is */
#define DETACH_FILTER  27
#define REPAIR         19 /* TCP_REPAIR: 1 on, 0 off, -1 off without a window probe (Linux 4.19) */
#define REPAIR_OPTIONS 22
#define IP_OPTIONS     4
#define PROT_RW        3
#define SHARED_ANON    0x21
#define INIT_PID       1

/* The number of sockets that have a filter, in memory that all processes of criu share. NULL: this is no restore with
 * the action "post-restore". */
static int *filtered;
static long main_pid;

static long tcp_get_pid(void)
{
	return raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

__attribute__((constructor)) static void tcp_begin(int argc, char **argv, char **envp)
{
	bool restore = false, script = false;
	long page;

	(void)envp;
	for (int i = 1; i < argc; i++) {
		restore |= preload_equal(argv[i], "restore");
		script |= preload_equal(argv[i], "--action-script");
	}
	main_pid = tcp_get_pid();
	page = restore && script ? raw_syscall(SYS_mmap, 0, sizeof(*filtered), PROT_RW, SHARED_ANON, -1, 0) : 0;
	filtered = page > 0 ? (int *)page : NULL;
}

/* ---- one socket ---------------------------------------------------------------- */

/* Returns the number of instructions of the socket's filter, 0 = none. Fills got if it is TCP_FILTER_LEN. */
static unsigned tcp_get_filter(int sk, struct sock_filter got[TCP_FILTER_LEN])
{
	unsigned len = 0;

	if (raw_syscall(SYS_getsockopt, sk, SOL_SOCK, ATTACH_FILTER, 0, (long)&len, 0) < 0 || len != TCP_FILTER_LEN)
		return len;
	raw_syscall(SYS_getsockopt, sk, SOL_SOCK, ATTACH_FILTER, (long)got, (long)&len, 0);
	return len;
}

static bool tcp_has_filter(int sk)
{
	struct sock_filter got[TCP_FILTER_LEN];

	return tcp_get_filter(sk, got) == TCP_FILTER_LEN && tcp_filter_is(got);
}

/* Does nothing if the socket has a filter of the job. From Linux 6.18 on, filters on TCP sockets need CAP_NET_ADMIN. */
static void tcp_attach_filter(int sk)
{
	const struct sock_fprog p = { TCP_FILTER_LEN, (struct sock_filter *)(unsigned long)tcp_filter };
	struct sock_filter got[TCP_FILTER_LEN];

	if (!tcp_get_filter(sk, got) && filtered &&
	    rights_with(CAP(NET_ADMIN), SYS_setsockopt, sk, SOL_SOCK, ATTACH_FILTER, (long)&p, sizeof(p), 0) >= 0)
		__atomic_add_fetch(filtered, 1, __ATOMIC_SEQ_CST);
}

static bool tcp_detach_filter(int sk)
{
	return tcp_has_filter(sk) &&
	       raw_syscall(SYS_setsockopt, sk, SOL_SOCK, DETACH_FILTER, (long)&sk, sizeof(int), 0) >= 0;
}

/* ---- all sockets ------------------------------------------------------------------ */

struct entry {
	uint64_t ino;
	int64_t next;
	unsigned short len;
	unsigned char type;
	char name[];
};
typedef void visit_fn(int dirfd, const char *name, long number, void *arg);

static long tcp_parse_number(const char *name)
{
	long n = preload_number(&name, 1L << 30);

	return *name ? -1 : n;
}

/* Calls fn for each name in the directory that is a number. */
static void tcp_each_number(int dirfd, const char *path, visit_fn *fn, void *arg)
{
	long fd = raw_syscall(SYS_openat, dirfd, (long)path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0), n;
	_Alignas(8) char buf[2048];

	if (fd < 0)
		return;
	while ((n = raw_syscall(SYS_getdents64, fd, (long)buf, sizeof(buf), 0, 0, 0)) > 0)
		for (const char *p = buf; p < buf + n; p += ((const struct entry *)(const void *)p)->len) {
			const struct entry *e = (const void *)p;

			if (tcp_parse_number(e->name) >= 0)
				fn((int)fd, e->name, tcp_parse_number(e->name), arg);
		}
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

struct process {
	long pidfd;
	int freed;
};

static void tcp_unfilter_socket(int dirfd, const char *name, long number, void *arg)
{
	struct process *p = arg;
	char link[16];
	long sk;

	if (raw_syscall(SYS_readlinkat, dirfd, (long)name, (long)link, sizeof(link), 0, 0) < 8 ||
	    !preload_after(link, "socket:"))
		return;
	sk = raw_syscall(SYS_pidfd_getfd, p->pidfd, number, 0, 0, 0, 0);
	if (sk < 0)
		return;
	p->freed += tcp_detach_filter((int)sk);
	raw_syscall(SYS_close, sk, 0, 0, 0, 0, 0);
}

static void tcp_unfilter_process(int dirfd, const char *name, long number, void *arg)
{
	struct process p = { -1, 0 };
	char path[32], *end = path;

	(void)name;
	if (number <= INIT_PID || number == main_pid)
		return;
	p.pidfd = raw_syscall(SYS_pidfd_open, number, 0, 0, 0, 0, 0);
	if (p.pidfd < 0)
		return;
	preload_put_number(&end, number);
	preload_put(&end, "/fd");
	*end = '\0';
	tcp_each_number(dirfd, path, tcp_unfilter_socket, &p);
	raw_syscall(SYS_close, p.pidfd, 0, 0, 0, 0, 0);
	*(int *)arg += p.freed;
}

bool tcp_restored(void)
{
	static const char text[] =
		"Error (fsched): not all TCP connections can be released: one is neither closed nor open in a process\n";
	int freed = 0;

	if (!filtered || !*filtered)
		return true;
	tcp_each_number(AT_FDCWD, "/proc", tcp_unfilter_process, &freed);
	if (freed == *filtered)
		return true;
	raw_syscall(SYS_write, 2, (long)text, sizeof(text) - 1, 0, 0, 0);
	return false;
}

/* ---- what criu calls --------------------------------------------------------------- */

EXPORT int getsockopt(int sk, int level, int name, void *value, unsigned *len);

/* Sets the repair mode in a restore. */
static long tcp_repair(int sk, int value)
{
	static const int quietly = -1;
	long ret;

	if (value == 0) {
		ret = rights_with(CAP(NET_ADMIN), SYS_setsockopt, sk, SOL_TCP, REPAIR, (long)&quietly, sizeof(quietly),
				  0);
		if (ret != -EINVAL)
			return ret;
	}
	ret = rights_with(CAP(NET_ADMIN), SYS_setsockopt, sk, SOL_TCP, REPAIR, (long)&value, sizeof(value), 0);
	if (value == 1 && ret >= 0)
		tcp_attach_filter(sk);
	return ret;
}

/* Called for the options of a restored connection. A failure leaves small segments. */
static long tcp_restore_options(int sk, const void *value, unsigned len)
{
	long ret = raw_syscall(SYS_setsockopt, sk, SOL_TCP, REPAIR_OPTIONS, (long)value, len, 0);

	if (ret >= 0)
		raw_syscall(SYS_setsockopt, sk, SOL_IP, IP_OPTIONS, 0, 0, 0);
	return ret;
}

bool tcp_setsockopt(int sk, int level, int name, const void *value, unsigned len, long *ret)
{
	if (level == SOL_TCP && name == REPAIR_OPTIONS) {
		*ret = tcp_restore_options(sk, value, len);
		return true;
	}
	if (level != SOL_TCP || name != REPAIR || len < sizeof(int))
		return false;
	/* criu's first process probes the kernel with a connection of its own. */
	if (filtered && tcp_get_pid() != main_pid) {
		*ret = tcp_repair(sk, *(const int *)value);
		return true;
	}
	if (!filtered && *(const int *)value == 0)
		tcp_detach_filter(sk);
	return false;
}

int getsockopt(int sk, int level, int name, void *value, unsigned *len)
{
	long ret;

	if (level == SOL_SOCK && name == ATTACH_FILTER && tcp_has_filter(sk)) {
		*len = 0;
		return 0;
	}
	if (tcp_closed_getsockopt(sk, level, name, value, len, &ret))
		return (int)errno_result(ret);
	return (int)errno_result(raw_syscall(SYS_getsockopt, sk, level, name, (long)value, (long)len, 0));
}
