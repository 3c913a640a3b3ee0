/* The calls of a restored task (rights.h) that need more than the job's rights. Part of libfsched-criu.so. */
#ifndef FSCHED_PRELOAD_RESTORED_TASK_H
#define FSCHED_PRELOAD_RESTORED_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* path: the directory of criu's images, which is there already. Called in criu before any task exists. */
void restored_task_images(const char *path);

/* openat() for a name of the job's (absolute, or relative to / or the working directory): with the job's rights alone.
 * A regular file or directory of the job's user whose mode forbids opening it is made accessible to its owner for the
 * moment of the call, as its owner can. A directory that may be entered but not read is opened with O_PATH, which is
 * enough for a working directory. Descriptor or -errno. */
long restored_task_open(int dirfd, const char *path, int flags, unsigned mode);

/* openat() relative to a directory that criu has opened for itself: its images, /proc. Descriptor or -errno. */
long restored_task_open_own(int dirfd, const char *path, int flags, unsigned mode);

/* write() to the sysctl that restored_task_open_own() has opened last; false if fd is something else. */
bool restored_task_write(int fd, const void *buf, size_t n, long *ret);

/* The capabilities that ioctl(fd, request) and syscall(nr) are to have. */
uint64_t restored_task_ioctl_caps(unsigned long request);
uint64_t restored_task_syscall_caps(long nr);

#endif
