/* Shared by the preflight*.c files only. */
#ifndef FSCHED_POD_PREFLIGHT_INTERNAL_H
#define FSCHED_POD_PREFLIGHT_INTERNAL_H

#include <stddef.h>
#include <sys/types.h>
#include "common/err.h"

struct owner { unsigned long inode; pid_t pid; };

struct scan {
	int    proc;           /* /proc */
	pid_t  leader;         /* host pid */
	unsigned uid;          /* the leader's */
	struct owner *sockets; /* of all processes of the pod, sorted by inode before use */
	int    n_sockets, room;
};

/* "process 17 (python3)": the pid that the user sees. */
const char *preflight_describe(const struct scan *s, pid_t pid, char *buf, size_t len);
/* "process 17 (python3) WHAT, which cannot be checkpointed; ADVICE". Returns -1. */
int preflight_refuse(const struct scan *s, pid_t pid, struct err *err, const char *what, const char *advice);

/* All checks: 0, or -1 with err. A process that has ended meanwhile passes. */

/* preflight_status.c: credentials, tracers, namespaces. */
int preflight_find_leader(struct scan *s, const pid_t *pids, int n, struct err *err);
int preflight_status(const struct scan *s, pid_t pid, struct err *err);
int preflight_namespaces(const struct scan *s, pid_t pid, struct err *err);

/* preflight_fd.c: descriptors and mappings. Remembers sockets for preflight_tcp(). */
int preflight_fds(struct scan *s, pid_t pid, struct err *err);
int preflight_maps(const struct scan *s, pid_t pid, struct err *err);

/* preflight_tcp.c: connections of the sockets seen so far. */
int preflight_tcp(struct scan *s, int agent_port, struct err *err);

#endif
