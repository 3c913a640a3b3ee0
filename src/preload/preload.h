/* What the parts of libfsched-criu.so share.
 *
 * The library is loaded into criu, and only into criu. It replaces functions of the C library that criu calls, uses no
 * C library itself, and changes how criu accesses the job. Each file says what it changes and why. */
#ifndef FSCHED_PRELOAD_PRELOAD_H
#define FSCHED_PRELOAD_PRELOAD_H

#include <linux/fcntl.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "trace/raw_syscall.h"

/* Returns the text after prefix, NULL if text does not begin with prefix. */
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

/* Reads a decimal number of at most max, and advances *text beyond it. Returns -1 if there is no digit or the number is
 * greater. */
static inline long preload_number(const char **text, long max)
{
	long n = 0;

	if (**text < '0' || **text > '9')
		return -1;
	for (; **text >= '0' && **text <= '9'; (*text)++) {
		n = n * 10 + (**text - '0');
		if (n > max)
			return -1;
	}
	return n;
}

/* Appends a text or a number to *to, without a NUL byte, and advances *to. */
static inline void preload_put(char **to, const char *text)
{
	while (*text)
		*(*to)++ = *text++;
}
static inline void preload_put_number(char **to, long number)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	while (n > 0)
		*(*to)++ = digits[--n];
}

/* statx() of a name, or with "" of dirfd itself. The device is always filled. */
static inline bool preload_statx(int dirfd, const char *path, unsigned mask, struct statx *st)
{
	return raw_syscall(SYS_statx, dirfd, (long)path, path[0] ? 0 : AT_EMPTY_PATH, mask, (long)st, 0) == 0;
}

/* Fills the inode, type, mode and owner. */
static inline bool preload_stat(int dirfd, const char *path, struct statx *st)
{
	return preload_statx(dirfd, path, STATX_INO | STATX_TYPE | STATX_UID | STATX_MODE, st);
}

/* True for the same file; false if *a was not filled. */
static inline bool preload_same_file(const struct statx *a, const struct statx *b)
{
	return a->stx_ino && a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major &&
	       a->stx_dev_minor == b->stx_dev_minor;
}

/* "/proc/self/fd/N" */
#define PRELOAD_FD_LINK 32
static inline void preload_fd_link(long fd, char out[PRELOAD_FD_LINK])
{
	preload_put(&out, "/proc/self/fd/");
	preload_put_number(&out, fd);
	*out = '\0';
}

/* elide.c: returns another name for criu's cache of kernel features while pages are elided, and every other path
 * unchanged. */
#define ELIDE_PATH_MAX 64
const char *elide_path(const char *path, char buf[ELIDE_PATH_MAX]);
/* elide.c: opens the pagemap image of the dummy parent, which exists once for all processes. Returns a descriptor, or
 * error if path is another name or was opened without an error. */
long elide_open_parent(int dirfd, const char *path, int flags, long error);
/* elide.c: lists the shared memory that criu takes for holes, from index first on. Returns how many fit into buf;
 * *total is the number of all. */
struct elided_object;
unsigned elide_shared_list(unsigned long first, struct elided_object *buf, unsigned room, unsigned *total);

/* reaper.c: must be called after a system call of criu that may have forked. Returns ret. */
long reaper_forked(long nr, long ret);

/* task_attributes.c: must be called in a process of the job as soon as criu has forked it. */
void task_attributes_restore(void);

/* unlinked_names.c: true if path is a link that criu makes to the open file fd because the file has lost its name. Such
 * a link must not be made. */
bool unlinked_names_own_link(int fd, const char *path);

/* reopen.c: opens "fd/N" below /proc/self for a file of the job in a dump. True if it has handled the call; then *ret
 * is the descriptor or -errno. */
bool reopen_job_file(int dirfd, const char *path, int flags, long *ret);
/* The result of an open of /proc/PID/map_files/NAME by its name in that directory, ret, or if root may not read the
 * file, which is on NFS, the descriptor that the job's user gets. */
long reopen_denied_mapping(int dirfd, const char *path, int flags, long ret);
/* moved_sockets.c: must be called when criu has got the file of the Unix socket sk (SIOCUNIXFILE) as the descriptor
 * file.
 */
void moved_sockets_opened(int sk, int file);
/* moved_sockets.c: buf has the path of the open file fd, of len bytes, in a dump. Replaces it by the name of bind() if
 * fd is the file of a socket that has another name now. Returns the new length, at most size. */
long moved_sockets_name(int fd, char *buf, long len, size_t size);
/* moved_sockets.c: must be called in a restore when all sockets exist. Returns false if a file cannot be renamed. */
bool moved_sockets_restore(void);
/* due_timer.c: opens "fdinfo/N" below /proc/self for an expired timer in a dump. True if it has handled the call; then
 * *ret is the descriptor. */
bool due_timer_info(int dirfd, const char *path, int flags, long *ret);
/* unlinked_names.c: true if this criu makes a dump. */
bool unlinked_names_given(void);

/* terminal_data.c: read() and write() of the data in a terminal. True if they have handled the call, because fd is a
 * terminal of the job; then *ret is the result or -errno. */
bool terminal_data_read(int fd, void *buf, size_t n, long *ret);
bool terminal_data_write(int fd, const void *buf, size_t n, long *ret);

/* terminals.c: opens /dev/ptmx in a restored process. True if it has handled the call; then *ret is the descriptor or
 * -errno. */
bool terminals_open(const char *path, long *ret);
/* terminals.c: must be called before an ioctl() of criu. */
void terminals_ioctl(unsigned long request, const void *arg);

/* tcp.c: setsockopt() for the repair mode of a connection. True if it has handled the call; then *ret is the result or
 * -errno. */
bool tcp_setsockopt(int sk, int level, int name, const void *value, unsigned len, long *ret);
/* tcp_closed.c: options of sockets whose connections leave the job, in a dump. True if it has handled the call. */
bool tcp_closed_getsockopt(int sk, int level, int name, void *value, unsigned *len, long *ret);
/* tcp_closed.c: closes a socket that was saved so, in a restore. True if it has handled the call. */
bool tcp_closed_setsockopt(int sk, int level, int name, const void *value, unsigned len, long *ret);
/* tcp.c: must be called in a restore when all sockets exist and no process runs yet. Removes the filters. Returns false
 * if one cannot be removed; then the restore has to fail. */
bool tcp_restored(void);

#endif
