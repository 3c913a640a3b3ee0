/* Finds the shared memory objects of processes by their mappings and descriptors. */
#ifndef FSCHED_CAPTURE_SHARED_SCAN_H
#define FSCHED_CAPTURE_SHARED_SCAN_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* fd: the object, opened with the flags of the scan. Returns true to keep fd, which is closed otherwise. */
typedef bool shared_found_fn(void *arg, int fd, const struct stat *st);

/* Calls fn once for every object: anonymous shared memory, memfds, and deleted regular files on a tmpfs (st_nlink 0).
 * System V segments and huge pages are not included. Skips processes that have ended and objects that cannot be
 * opened. */
void shared_scan_processes(const pid_t *pids, int n, int flags, shared_found_fn *fn, void *arg);

/* The device of the kernel's internal tmpfs, which contains all anonymous shared memory and memfds. 0: it cannot be
 * found out. */
dev_t shared_scan_device(void);

#endif
