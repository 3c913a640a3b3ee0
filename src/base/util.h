/* Small helpers that every program of fsched uses: cleanup attributes, exact
 * I/O, directory-relative file access, clocks. No policy lives here. */
#ifndef FSCHED_BASE_UTIL_H
#define FSCHED_BASE_UTIL_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/err.h"

/* Frees or closes when the variable leaves its scope. */
static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}
static inline void cleanup_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void cleanup_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}
static inline void cleanup_dirp(DIR **d)
{
	if (*d)
		closedir(*d);
}
#define cleanup_free  __attribute__((cleanup(cleanup_freep)))
#define cleanup_close __attribute__((cleanup(cleanup_closep)))
#define cleanup_file  __attribute__((cleanup(cleanup_fclosep)))
#define cleanup_dir   __attribute__((cleanup(cleanup_dirp)))

/* Hands a descriptor over: returns *fd and sets it to -1. */
static inline int steal_fd(int *fd)
{
	int r = *fd;
	*fd = -1;
	return r;
}
static inline void *steal_ptr_(void **p)
{
	void *r = *p;
	*p = NULL;
	return r;
}
#define steal_ptr(p)  ((__typeof__(*(p)))steal_ptr_((void **)(p)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Allocation that cannot fail: prints a line and aborts. */
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Writes all n bytes, restarting after EINTR. 0 or -1 with errno. */
int write_all(int fd, const void *buf, size_t n);
int pwrite_all(int fd, const void *buf, size_t n, uint64_t off);
/* Reads to end of file. At most max bytes (EFBIG beyond). *out is
 * NUL-terminated, to be freed by the caller. Returns the length or -1 with errno. */
ssize_t read_all(int fd, size_t max, char **out);
/* The same for a file below dirfd; O_NOFOLLOW on the last component. */
ssize_t read_file_at(int dirfd, const char *name, size_t max, char **out);
/* Opens /proc/PID/NAME; flags without O_CLOEXEC, which is added. A descriptor, or -1 with errno. */
int open_proc(pid_t pid, const char *name, int flags);
/* The number behind "KEY:" in the text of /proc/PID/status, the last one where there are several: NSpid's is the pid in
 * the innermost namespace. missing if there is no such line. */
long proc_status_number(const char *status, const char *key, long missing);
/* The same of a process; missing also if it is gone. */
long proc_number(pid_t pid, const char *key, long missing);
/* "process 17 (python3)": with the pid that the process has in the innermost namespace. Returns buf. */
#define PROC_DESCRIBED 160
const char *proc_describe(pid_t pid, char *buf, size_t len);
/* Writes name through a temporary name, fsync, rename, fsync of the directory:
 * after 0 the new content is durable, after -1 (errno) the old one stands. */
int write_file_atomic(int dirfd, const char *name, mode_t mode, gid_t gid, const void *buf, size_t n);
/* Replaces name by a file that belongs to a user, who alone may read it: in a directory in which he cannot write. The
 * old file is not opened, since a user can do much to one of his. A reader finds the old or the new one; durable only
 * if sync says so. */
int write_file_for(int dirfd, const char *name, uid_t uid, bool sync, const void *buf, size_t n);
/* Removes the tree name below dirfd, never following a symbolic link and never
 * crossing to another file system. 0 when it is gone (also if it never was). */
int remove_tree_at(int dirfd, const char *name);
/* mkdir -p with mode for the missing components. 0 or -1 with errno. */
int mkdir_parents(const char *path, mode_t mode);
/* Number of bytes of all regular files below the directory (st_blocks * 512). */
int64_t tree_size_at(int dirfd, const char *name);

/* CLOCK_MONOTONIC in microseconds. */
int64_t now_us(void);

/* A child that runs with a user's rights. He may send it signals: one that is stopped is made to go on, and ended if
 * that happens again and again, so that nobody waits for it longer than for its work. */
struct user_child {
	pid_t pid;
	unsigned stops; /* so far */
	bool given_up;  /* ended for that */
	int status;     /* as of wait(), when it has ended */
};
/* Whether it has ended; with wait not before. */
bool user_child_ended(struct user_child *c, bool wait);

/* "12.3 MiB", "512 B"; buf of at least 16 bytes. Returns buf. */
char *format_size(uint64_t bytes, char *buf, size_t len);
/* "31 ms", "2.4 s", "1 min 5 s"; buf of at least 24 bytes. Returns buf. */
char *format_duration(int64_t us, char *buf, size_t len);
/* Local time in ISO 8601 without zone, as Slurm prints it; 20 bytes. Returns buf. */
char *format_time(int64_t unix_time, char *buf, size_t len);

/* Copies s replacing control characters, so that a hostile file name cannot
 * forge a line of a log or of a terminal. Returns buf. */
char *printable(const char *s, char *buf, size_t len);

#endif
