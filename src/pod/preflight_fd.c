/* Preflight: open descriptors. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

/* criu's code in the process opens a few. Measured with criu 4.2.1: 3 are enough; with 1 the process was killed. */
#define FREE_DESCRIPTORS 4

/* clang-format off */
static const struct { const char *prefix, *what; } hardware[] = {
	{ "/dev/nvidia",     "uses a GPU" },
	{ "/dev/dri/",       "uses a GPU" },
	{ "/dev/kfd",        "uses a GPU" },
	{ "/dev/infiniband", "uses an RDMA network card" },
	{ "/dev/hfi1",       "uses an Omni-Path network card" },
	{ "/dev/knem",       "uses the KNEM device" },
	{ "/dev/xpmem",      "uses the XPMEM device" },
	{ "/dev/kvm",        "runs a virtual machine" },
};
/* clang-format on */

/* clang-format off */
static const struct { const char *link, *what; } anon[] = {
	{ "anon_inode:[io_uring]",    "uses io_uring" },
	{ "anon_inode:[perf_event]",  "has a performance counter open" },
	{ "anon_inode:kvm",           "runs a virtual machine" },
	{ "anon_inode:[userfaultfd]", "uses userfaultfd" },
	{ "anon_inode:bpf",           "has a BPF object open" },
	{ "anon_inode:btf",           "has a BPF object open" },
	{ "anon_inode:dmabuf",        "shares a buffer with a device" },
};
/* clang-format on */

const char *preflight_known_object(const char *link)
{
	for (size_t i = 0; i < ARRAY_SIZE(anon); i++)
		if (!strncmp(link, anon[i].link, strlen(anon[i].link)))
			return anon[i].what;
	for (size_t i = 0; i < ARRAY_SIZE(hardware); i++)
		if (!strncmp(link, hardware[i].prefix, strlen(hardware[i].prefix)))
			return hardware[i].what;
	return NULL;
}

/* Character devices whose state is in the kernel's generic code and known to criu. */
static bool harmless_device(unsigned maj, unsigned min)
{
	switch (maj) {
	case 1: /* null, zero, full, random, urandom, kmsg */
		return min == 3 || min == 5 || min == 7 || min == 8 || min == 9 || min == 11;
	case 5: /* tty, console, ptmx */
	case 4: /* virtual terminals and serial lines: criu says what it cannot do */ return true;
	case 10: /* net/tun */ return min == 200;
	default: /* pseudo-terminals */ return maj >= 136 && maj <= 143;
	}
}

static void remember_socket(struct scan *s, pid_t pid, unsigned long inode)
{
	if (s->n_sockets == s->room)
		s->sockets = xrealloc(s->sockets, (size_t)(s->room = s->room ? 2 * s->room : 64) * sizeof(*s->sockets));
	s->sockets[s->n_sockets++] = (struct owner){ inode, pid };
}

static bool is_terminal(const struct statx *st)
{
	const unsigned maj = st->stx_rdev_major;

	return S_ISCHR(st->stx_mode) && (maj == 4 || maj == 5 || (maj >= 136 && maj <= 143));
}

/* Packets in a pipe have no limits in criu's images. */
static int check_pipe(const struct scan *s, pid_t pid, const char *name, struct err *err)
{
	cleanup_free char *info = NULL;
	char path[64], what[128];
	const char *p;
	unsigned flags;

	snprintf(path, sizeof(path), "%d/fdinfo/%s", pid, name);
	if (read_file_at(s->proc, path, 65536, &info) <= 0 || !(p = strstr(info, "flags:")))
		return 0;
	if (sscanf(p, "flags: %o", &flags) != 1 || !(flags & O_DIRECT))
		return 0;
	snprintf(what, sizeof(what), "has a pipe in packet mode (O_DIRECT) open as descriptor %s", name);
	return preflight_refuse(s, pid, err, what, "close it and try again");
}

static int check_named(struct scan *s, pid_t pid, int dirfd, const char *name, const char *link, struct err *err)
{
	char what[256], clean[160], as[32];
	struct open_file f = { .pid = pid, .as = as, .path = link, .own = true, .dirfd = dirfd, .name = name };
	struct statx st;
	int mode;

	/* DONT_SYNC: a file server that hangs must not hang the worker. */
	if (statx(dirfd, name, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st))
		return 0;
	if (S_ISBLK(st.stx_mode) || (S_ISCHR(st.stx_mode) && !harmless_device(st.stx_rdev_major, st.stx_rdev_minor))) {
		snprintf(what, sizeof(what), "has the device %s open as descriptor %s",
			 printable(link, clean, sizeof(clean)), name);
		return preflight_refuse(s, pid, err, what, "");
	}
	mode = preflight_mode(dirfd, name);
	if (mode < 0 || is_terminal(&st))
		return 0;
	snprintf(as, sizeof(as), "descriptor %s", name);
	f.mode = (unsigned)mode;
	return preflight_file(s, &f, &st, err);
}

static int check_fd(struct scan *s, pid_t pid, int dirfd, const char *name, struct err *err)
{
	char link[4096], what[128];
	unsigned long inode;
	const char *known;
	ssize_t n = readlinkat(dirfd, name, link, sizeof(link) - 1);

	if (n < 0)
		return 0;
	link[n] = '\0';
	if (sscanf(link, "socket:[%lu]", &inode) == 1) {
		remember_socket(s, pid, inode);
		return 0;
	}
	known = preflight_known_object(link);
	if (known) {
		snprintf(what, sizeof(what), "%s (descriptor %s)", known, name);
		return preflight_refuse(s, pid, err, what, "");
	}
	if (!strncmp(link, "pipe:", 5))
		return check_pipe(s, pid, name, err);
	return link[0] == '/' ? check_named(s, pid, dirfd, name, link, err) : 0;
}

static long descriptor_limit(const struct scan *s, pid_t pid)
{
	cleanup_free char *limits = NULL;
	char path[64];
	const char *p;
	long limit;

	snprintf(path, sizeof(path), "%d/limits", pid);
	/* unlimited, or it has ended */
	if (read_file_at(s->proc, path, 65536, &limits) <= 0 || !(p = strstr(limits, "Max open files")))
		return LONG_MAX;
	return sscanf(p, "Max open files %ld", &limit) == 1 ? limit : LONG_MAX;
}

int preflight_fds(struct scan *s, pid_t pid, struct err *err)
{
	const long limit = descriptor_limit(s, pid);
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64], what[128];
	long used = 0;
	int more = 0;

	snprintf(path, sizeof(path), "%d/fd", pid);
	d = dir_open_at(s->proc, path);
	while (d && (more = dir_next(d, &e)) > 0) {
		used += atol(e->d_name) < limit;
		if (check_fd(s, pid, dirfd(d), e->d_name, err))
			return -1;
	}
	if (more < 0 || (!d && errno != ENOENT && errno != ESRCH))
		return err_sys(err, errno, "cannot read /proc/%s", path);
	if (used > 0 && limit - used < FREE_DESCRIPTORS) {
		snprintf(what, sizeof(what), "has %ld of the %ld descriptors open that its limit allows (criu needs %d)",
			 used, limit, FREE_DESCRIPTORS);
		return preflight_refuse(s, pid, err, what, "close some, or raise its limit (ulimit -n, prlimit)");
	}
	return 0;
}
