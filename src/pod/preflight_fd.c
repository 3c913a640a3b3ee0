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

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

/* Descriptors that criu's code in the process needs. Measured with criu 4.2.1: 3 are enough; with 1 the process was
 * killed. */
#define FREE_DESCRIPTORS 4

/* Virtual terminals and serial lines; tty, console, ptmx; pseudo-terminals. preflight_tty.c says which can be saved. */
static bool is_terminal(unsigned maj)
{
	return maj == 4 || maj == 5 || (maj >= 128 && maj <= 143);
}

/* True for character devices whose state is kept by generic kernel code and is known to criu. */
static bool is_harmless_device(unsigned maj, unsigned min)
{
	switch (maj) {
	case 1: /* null, zero, full, random, urandom, kmsg */
		return min == 3 || min == 5 || min == 7 || min == 8 || min == 9 || min == 11;
	case 10: /* net/tun */ return min == 200;
	default: return is_terminal(maj);
	}
}

static void fd_remember_socket(struct preflight_scan *s, pid_t pid, unsigned long inode)
{
	array_reserve(s->sockets, s->n_sockets, s->sockets_room);
	s->sockets[s->n_sockets++] = (struct socket_owner){ inode, pid };
}

/* Calls found() with the text of fdinfo, which the kernel writes. */
static bool fd_info(const struct preflight_scan *s, pid_t pid, const char *name, bool (*found)(const char *info))
{
	cleanup_free char *info = NULL;
	char path[64];

	snprintf(path, sizeof(path), "%d/fdinfo/%s", pid, name);
	return read_file_at(s->proc, path, 65536, &info) > 0 && found(info);
}

static bool fd_has_packets(const char *info)
{
	const char *p = strstr(info, "flags:");
	unsigned flags;

	return p && sscanf(p, "flags: %o", &flags) == 1 && (flags & O_DIRECT);
}

/* Linux 6.5 and later tell that. */
static bool fd_is_semaphore(const char *info)
{
	const char *p = strstr(info, "eventfd-semaphore:");
	int yes;

	return p && sscanf(p, "eventfd-semaphore: %d", &yes) == 1 && yes;
}

/* Refuses what criu would restore as something else. Its images do not keep the boundaries of packets, nor the flag of
 * an eventfd. */
static int fd_check_kernel_object(const struct preflight_scan *s, pid_t pid, const char *name, const char *link,
				  struct err *err)
{
	const char *is = NULL;
	char what[128];

	if (!strncmp(link, "pipe:", 5) && fd_info(s, pid, name, fd_has_packets))
		is = "a pipe in packet mode (O_DIRECT)";
	else if (!strcmp(link, "anon_inode:[eventfd]") && fd_info(s, pid, name, fd_is_semaphore))
		is = "an eventfd that counts like a semaphore (EFD_SEMAPHORE)";
	if (!is)
		return 0;
	snprintf(what, sizeof(what), "has %s open as descriptor %s", is, name);
	return preflight_refuse(pid, err, what, "close it and try again");
}

static int fd_check_named(struct preflight_scan *s, pid_t pid, int dirfd, const char *name, const char *link,
			  struct err *err)
{
	char what[256], clean[160], as[32];
	struct preflight_file f = { .pid = pid, .as = as, .path = link, .own = true, .dirfd = dirfd, .name = name };
	struct statx st;
	int mode;

	/* DONT_SYNC: a file server that does not answer must not block the worker. */
	if (statx(dirfd, name, AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID, &st))
		return 0;
	if (!st.stx_nlink)
		preflight_remember_nameless(s, pid, &st, link);
	if (S_ISBLK(st.stx_mode) || (S_ISCHR(st.stx_mode) && !is_harmless_device(st.stx_rdev_major, st.stx_rdev_minor))) {
		snprintf(what, sizeof(what), "has the device %s open as descriptor %s",
			 printable(link, clean, sizeof(clean)), name);
		return preflight_refuse(pid, err, what, "");
	}
	mode = preflight_mode(dirfd, name);
	if (mode < 0)
		return 0;
	if (S_ISCHR(st.stx_mode) && is_terminal(st.stx_rdev_major))
		return preflight_tty(s, &f, &st, err);
	snprintf(as, sizeof(as), "descriptor %s", name);
	f.mode = (unsigned)mode;
	return preflight_check_file(s, &f, &st, err);
}

static int fd_check(struct preflight_scan *s, pid_t pid, int dirfd, const char *name, struct err *err)
{
	char link[4096], what[128];
	unsigned long inode;
	const char *known;
	ssize_t n = readlinkat(dirfd, name, link, sizeof(link) - 1);

	if (n < 0 && errno == ENAMETOOLONG) {
		snprintf(what, sizeof(what), "descriptor %s", name);
		return preflight_too_long(pid, what, err);
	}
	if (n < 0)
		return 0;
	link[n] = '\0';
	if (sscanf(link, "socket:[%lu]", &inode) == 1) {
		fd_remember_socket(s, pid, inode);
		return 0;
	}
	known = preflight_known_object(link);
	if (known) {
		snprintf(what, sizeof(what), "%s (descriptor %s)", known, name);
		return preflight_refuse(pid, err, what, "");
	}
	if (!strcmp(link, "anon_inode:inotify"))
		preflight_remember_watches(s, pid, name);
	return link[0] == '/' ? fd_check_named(s, pid, dirfd, name, link, err)
			      : fd_check_kernel_object(s, pid, name, link, err);
}

static long fd_limit(const struct preflight_scan *s, pid_t pid)
{
	cleanup_free char *limits = NULL;
	char path[64];
	const char *p;
	long limit;

	snprintf(path, sizeof(path), "%d/limits", pid);
	/* no number: unlimited, or the process has ended */
	if (read_file_at(s->proc, path, 65536, &limits) <= 0 || !(p = strstr(limits, "Max open files")))
		return LONG_MAX;
	return sscanf(p, "Max open files %ld", &limit) == 1 ? limit : LONG_MAX;
}

int preflight_fds(struct preflight_scan *s, pid_t pid, struct err *err)
{
	const long limit = fd_limit(s, pid);
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	char path[64], what[128];
	long used = 0;
	int more = 0;

	snprintf(path, sizeof(path), "%d/fd", pid);
	d = dir_open_at(s->proc, path);
	while (d && (more = dir_next(d, &e)) > 0) {
		used += atol(e->d_name) < limit;
		if (fd_check(s, pid, dirfd(d), e->d_name, err))
			return -1;
	}
	if (more < 0 || (!d && errno != ENOENT && errno != ESRCH))
		return err_sys(err, errno, "cannot read /proc/%s", path);
	if (used > 0 && limit - used < FREE_DESCRIPTORS) {
		snprintf(what, sizeof(what), "has %ld of the %ld descriptors open that its limit allows (criu needs %d)",
			 used, limit, FREE_DESCRIPTORS);
		return preflight_refuse(pid, err, what, "close some, or raise its limit (ulimit -n, prlimit)");
	}
	return 0;
}
