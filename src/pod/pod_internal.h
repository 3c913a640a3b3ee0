/* What pod_start() and pod_restore() share. Not for other folders. */
#ifndef FSCHED_POD_INTERNAL_H
#define FSCHED_POD_INTERNAL_H

#include <sys/types.h>
#include "pod/pod.h"

/* The report socket: SOCK_SEQPACKET, written by the processes of a pod until each has exec'ed its program
 * (close-on-exec closes it for them), read by the process that starts the pod. End of file therefore means that
 * everything is in place. The kernel adds the sender's pid as the reader's pid namespace sees it. */
enum report_kind { REPORT_LEADER = 'L', REPORT_SCRIPT = 'S', REPORT_ERROR = 'E' };

struct report {
	char kind;
	pid_t pid;      /* filled by the receiver */
	struct err err; /* REPORT_ERROR only */
};

/* A pair of connected close-on-exec SOCK_SEQPACKET sockets, none of them 0-2. */
int pod_socketpair(int pair[2], struct err *err);

/* The same with pair[0] prepared to receive reports. */
int report_pair(int pair[2], struct err *err);
void report_send(int fd, enum report_kind kind, const struct err *err);
/* 1 and *r, 0 when every sender has closed, -1 errno. */
int report_recv(int fd, struct report *r);

/* fork() whose child is pid 1 of a new PID namespace; later children of the caller are in the caller's own again. */
pid_t pod_fork_init(struct err *err);

/* In pid 1: unshares mount and IPC namespace and makes the pod's mounts. */
int pod_make_namespace(const struct pod_spec *spec, struct err *err);

/* Turns the caller into a program of fsched: cwd /, fds 0-2 /dev/null, all others closed except keep[],
 * all signals blocked. Returns only on failure. */
void pod_exec(const char *path, char *const argv[], char *const envp[], const int *keep, int n_keep, struct err *err);

/* SIGKILL to the child init and reaps it. */
void pod_abandon(pid_t init);

/* True if the child has ended already (it is not reaped). */
bool pod_has_ended(pid_t child);

#endif
