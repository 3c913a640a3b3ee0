/* The pod: PID + mount + IPC namespaces with fsched-init as pid 1 (root, never
 * dumped) and fsched-leader as pid 2 (the job's user, root of the dumped tree). */
#ifndef FSCHED_POD_POD_H
#define FSCHED_POD_POD_H

#include <stdbool.h>
#include <sys/types.h>
#include "base/err.h"

struct pod_cred {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int n_groups;
};

struct pod_spec {
	char dir[4096]; /* node-local directory of this pod (private /tmp lies in dir/tmp); made by pod_prepare */
	bool private_tmp;
	char libexec[4096]; /* where fsched-init and fsched-leader are */
	struct pod_cred cred;
};

struct pod { /* host pids */
	pid_t init;
	pid_t leader; /* -1 in a pod that is being restored */
	int ctl;      /* agent's end of the control socket, owned; -1 after pod_restore, whose caller made the socket */
};

/* Makes spec->dir (root 0700) and dir/tmp (1777). Idempotent. */
int pod_prepare(const struct pod_spec *spec, struct err *err);
/* Removes spec->dir with all in it. */
void pod_cleanup(const char *dir);

/* True if a private /tmp would hide something the job needs: any of the NULL-terminated paths lies below /tmp. */
bool pod_tmp_conflict(const char *const paths[]);

/* Starts a pod whose script is made by the caller. Called in a process T with no threads that may be changed:
 * T's later children would be in the pod's PID namespace too, so T must not fork after this call except by exec
 * of a program that undoes it (setns to its own /proc/self/ns/pid, which pod_start does before it returns).
 * Returns twice like fork: in T 0 with *pod and *script_pid filled; in the future script process 1, as root, in the
 * pod, process group of its own, to go on to exec the script as the job's user. pid_hint: wanted pid of the script
 * inside the pod, 0 = next free. -1 on failure (in T only). */
int pod_start(const struct pod_spec *spec, pid_t pid_hint, struct pod *pod, pid_t *script_pid, struct err *err);

/* Starts an empty pod whose fsched-init will run the given criu command (argv[0] an absolute path or NULL-terminated
 * loader invocation) and adopt the restored tree. images_fd, work_fd and hand appear as descriptors 10, 11 and 12 in
 * criu. pre: called in P1 after the mounts are made, as root inside the new mount namespace, before exec; non-zero
 * aborts. */
struct pod_restore {
	char *const *argv;
	char *const *envp; /* complete environment of criu */
	int images_fd, work_fd;
	int hand;     /* criu's end of trace/remote_call.h; -1 = none */
	int ctl;      /* init's end of the control socket, made by the caller (the agent keeps the other end) */
	int last_pid; /* ns_last_pid to set before criu is forked: above every pid of the image */
	int (*pre)(void *arg, struct err *err);
	void *arg;
};
int pod_restore(const struct pod_spec *spec, const struct pod_restore *r, struct pod *pod, struct err *err);

/* One message of the control socket, NUL-terminated, into buf. 1 message, 0 end of file, -1 errno. */
int pod_recv(int ctl, char *buf, size_t len);

/* Host pids of all processes of the pod except pid 1, by the pid namespace of init, those in namespaces that the job
 * made itself included. Returns how many. *pids is the caller's. */
int pod_pids(pid_t init, pid_t **pids, struct err *err);

/* Host pid of the script's process (the leader's first argument says which it is in the pod), 0 if it has ended. */
pid_t pod_script(pid_t init);

/* Moves pids into the cgroups of this process, every hierarchy in which they differ, and gives them its CPU affinity
 * (slurmstepd sets both for the task that it knows only). */
int pod_join_my_cgroups(const pid_t *pids, int n, struct err *err);

/* SIGKILL to pid 1 (the kernel kills the rest) and waits up to timeout_ms until all are gone, if init is a child it is
 * NOT reaped. */
int pod_kill(pid_t init, int timeout_ms, struct err *err);

#endif
