/* Which files the processes of a pod open for writing, on file systems where an event must not keep the file in use.
 *
 * fanotify's events hold the file until they are read. NFS and its like give a file that is deleted meanwhile another
 * name, and the job's own `rm -r` finds a directory that is not empty. Their mounts cannot be marked for events by
 * file handle either, because they have no file system ID (Linux 6.12: ENODEV). So a BPF program at the entry of the
 * kernel's security_file_open() writes the path of each such file to a ring buffer: for regular files opened for
 * writing, by a process of the pod's PID namespace or one below it, on a file system of one of the given types.
 *
 * Needed: CONFIG_DEBUG_INFO_BTF and BPF trampolines (all distributions), Linux 5.11, CAP_BPF and CAP_PERFMON.
 */
#ifndef FSCHED_AGENT_OPEN_WATCH_H
#define FSCHED_AGENT_OPEN_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct open_watch;

/* path: as the process that opened it sees it, absolute; valid during the call. */
typedef void open_watch_fn(void *arg, const char *path);

/* Watches the pod whose pid 1 is init (host pid). types: magic numbers of file systems (statfs(2), f_type), n of them.
 * NULL with err where the kernel cannot do it, or fsched was built without libbpf. */
struct open_watch *open_watch_open(pid_t init, const uint64_t *types, size_t n, open_watch_fn *fn, void *arg,
				   struct err *err);
void open_watch_close(struct open_watch *w);

/* Readable when there are paths. */
int open_watch_fd(const struct open_watch *w);
/* Calls fn for each path that is there. */
void open_watch_drain(struct open_watch *w);
/* True once paths were lost: the buffer was full, or a path is longer than PATH_MAX. */
bool open_watch_lost(const struct open_watch *w);

#endif
