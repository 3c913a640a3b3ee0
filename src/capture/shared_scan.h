/* The objects of shared memory that processes have, by their mappings and descriptors. */
#ifndef FSCHED_CAPTURE_SHARED_SCAN_H
#define FSCHED_CAPTURE_SHARED_SCAN_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* fd: the object, opened with the flags that were asked for; fn keeps it by returning true. */
typedef bool shared_found_fn(void *arg, int fd, const struct stat *st);

/* Calls fn once for every object: anonymous shared memory and memfds, no System V segments, no huge pages; and regular
 * files on a tmpfs that have no name any more (st_nlink 0). Processes that have ended and what cannot be opened are
 * left out. */
void shared_scan_processes(const pid_t *pids, int n, int flags, shared_found_fn *fn, void *arg);

/* The device of the kernel's own tmpfs, with all anonymous shared memory and memfds; 0: not to be found out. */
dev_t shared_scan_device(void);

#endif
