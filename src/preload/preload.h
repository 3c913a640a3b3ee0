/* What the parts of libfsched-criu.so know of each other. */
#ifndef FSCHED_PRELOAD_PRELOAD_H
#define FSCHED_PRELOAD_PRELOAD_H

#include <linux/fcntl.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "trace/raw_syscall.h"

/* The text behind prefix, NULL if text begins otherwise. */
static inline const char *preload_after(const char *text, const char *prefix)
{
	while (*prefix && *text == *prefix)
		text++, prefix++;
	return *prefix ? NULL : text;
}

static inline bool preload_equal(const char *a, const char *b)
{
	const char *rest = preload_after(a, b);

	return rest && !*rest;
}

/* statx() of a name, or with "" of dirfd itself; no C library. */
static inline bool preload_stat(int dirfd, const char *path, struct statx *st)
{
	return raw_syscall(SYS_statx, dirfd, (long)path, path[0] ? 0 : AT_EMPTY_PATH,
			   STATX_INO | STATX_TYPE | STATX_UID | STATX_MODE, (long)st, 0) == 0;
}

/* The same file; false for two that were not looked at. */
static inline bool preload_same_file(const struct statx *a, const struct statx *b)
{
	return a->stx_ino && a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major &&
	       a->stx_dev_minor == b->stx_dev_minor;
}

/* "/proc/self/fd/N" */
#define PRELOAD_FD_LINK 32
static inline void preload_fd_link(long fd, char out[PRELOAD_FD_LINK])
{
	const char *head = "/proc/self/fd/";
	char digits[12];
	int n = 0, k = 0;

	while (*head)
		out[k++] = *head++;
	do
		digits[n++] = (char)('0' + fd % 10);
	while ((fd /= 10) > 0);
	while (n > 0)
		out[k++] = digits[--n];
	out[k] = '\0';
}

/* elide.c: the name under which criu's memory of what the kernel can do is kept while pages are elided; any other name
 * as it is. */
#define ELIDE_PATH_MAX 64
const char *elide_path(const char *path, char buf[ELIDE_PATH_MAX]);
/* An image of the dummy parent that is there once for all processes: descriptor, or the error that opening path gave.
 */
long elide_open_parent(int dirfd, const char *path, int flags, long error);
/* The shared memory of which criu was told that it holds nothing, from index first on: how many fit into buf; *total:
 * all. */
struct elided_object;
unsigned elide_shared_list(unsigned long first, struct elided_object *buf, unsigned room, unsigned *total);

/* reaper.c: after a system call of criu's that may have forked. Returns ret. */
long reaper_forked(long nr, long ret);

/* names.c: is this a link that criu makes to the open file fd, which has lost its name, and must not? */
bool unlinked_names_own_link(int fd, const char *path);

/* reopen.c: the open of /proc/self/fd/N for a file of the job's in a dump: true if it was made there, *ret is the
 * descriptor or -errno. */
bool reopen_job_file(int dirfd, const char *path, int flags, long *ret);
/* names.c: is this criu dumping? */
bool unlinked_names_given(void);

/* tcp.c: setsockopt() for the repair mode of a connection: true if it was made there. */
bool tcp_setsockopt(int sk, int level, int name, const void *value, unsigned len, long *ret);
/* tcp.c: in a restore, all sockets exist and nothing runs yet. False: one of them cannot be let go, and the restore has
 * to fail. */
bool tcp_restored(void);

#endif
