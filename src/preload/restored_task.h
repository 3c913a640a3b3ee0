/* Part of libfsched-criu.so: the system calls of a restored task (rights.h) that need more than the rights of the job's
 * user. */
#ifndef FSCHED_PRELOAD_RESTORED_TASK_H
#define FSCHED_PRELOAD_RESTORED_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets the directory of criu's images, which must exist. Called in criu before any task exists. */
void restored_task_images(const char *path);

/* openat() for a name of the job (absolute, or relative to / or the working directory), with only the rights of the
 * job's user. If the user owns a regular file or directory whose mode forbids opening it, the mode is changed for the
 * time of the call, as its owner may. A directory that may be entered but not read is opened with O_PATH, which is
 * enough for a working directory. Returns a descriptor or -errno. */
long restored_task_open(int dirfd, const char *path, int flags, unsigned mode);

/* openat() relative to a directory that criu has opened for itself: its images, /proc. Returns a descriptor or -errno.
 */
long restored_task_open_own(int dirfd, const char *path, int flags, unsigned mode);

/* write() to the sysctl that restored_task_open_own() has opened last. Returns false if fd is another file; else *ret
 * is the result or -errno. */
bool restored_task_write(int fd, const void *buf, size_t n, long *ret);

/* Return the capabilities that ioctl(fd, request) and syscall(nr) need. */
uint64_t restored_task_ioctl_caps(unsigned long request);
uint64_t restored_task_syscall_caps(long nr);

#endif
