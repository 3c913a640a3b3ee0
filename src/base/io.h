/* Exact reads and writes, and whole files below a directory. */
#ifndef FSCHED_BASE_IO_H
#define FSCHED_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Writes all n bytes, restarting after EINTR. 0 or -1 with errno. */
int write_all(int fd, const void *buf, size_t n);
int pwrite_all(int fd, const void *buf, size_t n, uint64_t off);
/* Reads to end of file. At most max bytes (EFBIG beyond). *out is
 * NUL-terminated, to be freed by the caller. Returns the length or -1 with errno. */
ssize_t read_all(int fd, size_t max, char **out);
/* The same for a file below dirfd; O_NOFOLLOW on the last component. */
ssize_t read_file_at(int dirfd, const char *name, size_t max, char **out);
/* Writes name through a temporary name, fsync, rename, fsync of the directory:
 * after 0 the new content is durable, after -1 (errno) the old one stands. */
int write_file_atomic(int dirfd, const char *name, mode_t mode, gid_t gid, const void *buf, size_t n);

#endif
