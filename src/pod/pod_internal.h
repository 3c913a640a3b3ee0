/* Shared by the pod_*.c files only. */
#ifndef FSCHED_POD_INTERNAL_H
#define FSCHED_POD_INTERNAL_H

#include <sys/types.h>
#include "pod/pod.h"

/* The report socket: a SOCK_SEQPACKET pair. The processes of a new pod write to it, the process that starts the pod
 * reads. Close-on-exec closes it in each process of the pod when that executes its program, so end of file means that
 * the pod is complete. The kernel adds the sender's pid as the reader's PID namespace sees it (SCM_CREDENTIALS). */
enum report_kind { REPORT_LEADER = 'L', REPORT_SCRIPT = 'S', REPORT_ERROR = 'E' };

struct report {
	char kind;
	pid_t pid;      /* set by report_recv() */
	struct err err; /* REPORT_ERROR only */
};

/* Makes a pair of connected close-on-exec SOCK_SEQPACKET sockets with numbers above 2. */
int pod_socketpair(int pair[2], struct err *err);

/* The same, with pair[0] prepared for report_recv(). */
int report_pair(int pair[2], struct err *err);
/* err is sent with REPORT_ERROR; NULL otherwise. */
void report_send(int fd, enum report_kind kind, const struct err *err);
/* 1 and *r, 0 if all senders have closed, -1 with errno. */
int report_recv(int fd, struct report *r);

/* Like fork(), but the child is pid 1 of a new PID namespace. Later children of the caller are in the caller's own
 * namespace again. -1 with err. */
pid_t pod_fork_init(struct err *err);

/* To be called in pid 1: unshares the mount and IPC namespaces, enters the network namespace and unshares the UTS
 * namespace if the pod has its own, and makes the pod's mounts. 0 or -1. */
int pod_make_namespace(const struct pod_spec *spec, struct err *err);

/* Mounts fsched-srun over Slurm's srun (spec->srun), and Slurm's over PLACE_OF_SRUN in spec->libexec, where fsched-srun
 * finds it. (pod_srun.c) */
#define PLACE_OF_SRUN "slurm/srun"
int pod_mount_srun(const struct pod_spec *spec, struct err *err);

/* The directory of the cgroup path in the hierarchy with these controllers ("" = version 2). The caller frees it. NULL:
 * the hierarchy is not mounted. (pod_cgroups.c) */
char *pod_cgroup_directory(const char *controllers, const char *path);

/* Returns a descriptor of a new network namespace with a loopback interface, in which more, unless NULL, has been
 * called. The caller is in its own again; if that fails, the process ends. (pod_network.c) */
int pod_network_namespace(int (*more)(struct err *err), struct err *err);
#define POD_HOSTS "hosts" /* in the pod's directory: its /etc/hosts */

/* Executes a program of fsched: working directory /, descriptors 0-2 /dev/null, all others closed except keep[], all
 * signals blocked. Returns only on failure, with err. Needs Linux 5.11 (close_range() with CLOSE_RANGE_CLOEXEC). */
void pod_exec(const char *path, char *const argv[], char *const envp[], const int *keep, int n_keep, struct err *err);

/* Sends SIGKILL to the child init and reaps it. */
void pod_abandon(pid_t init);

/* True if the child has ended. Does not reap it. */
bool pod_has_ended(pid_t child);

#endif
