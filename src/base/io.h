/* Complete reads and writes, and whole files below a directory. */
#ifndef FSCHED_BASE_IO_H
#define FSCHED_BASE_IO_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Writes all n bytes, and restarts after EINTR. Returns 0 or -1 with errno. */
int write_all(int fd, const void *buf, size_t n);
int pwrite_all(int fd, const void *buf, size_t n, uint64_t off);
/* Reads len bytes at off. Returns 0, or -1 with errno; ENODATA: the file ends before. */
int pread_all(int fd, void *buf, size_t len, uint64_t off);
/* Reads up to the end of the file, at most max bytes (EFBIG if there are more). *out has a NUL byte after the data; the
 * caller frees it. Returns the length, or -1 with errno and *out = NULL. */
ssize_t read_all(int fd, size_t max, char **out);
/* Like read_all(), for the regular file name below dirfd. A symbolic link as last component is refused. */
ssize_t read_file_at(int dirfd, const char *name, size_t max, char **out);
/* Replaces the file name: writes a temporary file, fsyncs it, renames it, and fsyncs the directory. gid -1 = the
 * caller's. After 0 the new content is durable. After -1 with errno the old content is still there, unless only the
 * fsync of the directory has failed. */
int write_file_atomic(int dirfd, const char *name, mode_t mode, gid_t gid, const void *buf, size_t n);
/* Replaces name, in a directory in which only root can write, by a file with mode 0400 that belongs to uid. The old
 * file is not opened, since its owner may have prepared it (a lease, a FIFO). A reader sees the old or the new file.
 * The new one is durable on return only with sync. Returns 0 or -1 with errno. */
int write_file_for(int dirfd, const char *name, uid_t uid, bool sync, const void *buf, size_t n);

#endif
