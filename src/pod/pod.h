/* The pod: PID, mount and IPC namespaces, and network and UTS namespaces if it has a network of its own, with
 * fsched-init as pid 1 (root, never dumped) and fsched-leader as pid 2 (the job's user, root of the dumped tree).
 * Functions that return int return 0, or -1 with err, unless they say otherwise.
 */
#ifndef FSCHED_POD_POD_H
#define FSCHED_POD_POD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

/* The first of these descriptors in fsched-init: above all its others. */
#define POD_TERMINALS_FD 512

struct pod_cred {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int n_groups;
};

struct pod_network {       /* of a pod that has one of its own (pod/pod_network.h) */
	char hostname[65]; /* of the node where the job began */
	char address[16];  /* IPv4, the same as long as the job lives */
};

struct pod_tmp {         /* of a pod whose /tmp is an image (pod/pod_tmp.h) */
	uint64_t size;   /* bytes, 0 = it is a directory */
	unsigned device; /* number of the loop device */
};

struct alone_cgroup;

struct pod_spec {
	char dir[4096];   /* node-local directory of this pod. pod_prepare() makes it */
	bool private_tmp; /* it has a /tmp of its own: dir/tmp or an image */
	bool tmp_image;   /* it is an image, and pod_tmp_make() has set: */
	int tmp_mount;    /* a mount of it without a place, owned */
	struct pod_tmp tmp;
	char libexec[4096]; /* directory of fsched-init and fsched-leader */
	char srun[4096];    /* paths of Slurm's srun, separated by colons, that are fsched-srun in the pod; "" = none */
	struct pod_cred cred;
	bool private_net; /* it has a network of its own, and pod_network_make() has set: */
	int net_ns;       /* its namespace, owned */
	struct pod_network net;
	const struct alone_cgroup *alone; /* a proof: its processes are kept apart by pod/alone.h; NULL: they are not */
};

struct pod { /* host pids */
	pid_t init;
	pid_t leader; /* -1 in a pod that is being restored */
	int ctl; /* agent's end of the control socket, owned; -1 after pod_restore(), whose caller made the socket */
};

/* Makes spec->dir (root, mode 0700) and dir/tmp (mode 1777). Idempotent. */
int pod_prepare(const struct pod_spec *spec, struct err *err);
/* Removes spec->dir with all in it. What takes longer than a moment is left to a process of its own: pod_remove.c. */
void pod_cleanup(const char *dir);
/* The same for what is left in PodDir of pods whose agent was killed while it did that. */
void pod_cleanup_rest(const char *parent);

/* True if a private /tmp would hide something that the job needs: one of the paths (NULL-terminated list) is below
 * /tmp. */
bool pod_tmp_conflict(const char *const paths[]);

/* Starts a pod whose script process continues in the caller's code.
 *
 * The caller must be a process T without threads. Like fork(), the function returns twice: 0 in T, with *pod and
 * *script_pid (host pid) set, and 1 in the new script process. The script process runs as root in the pod, in a process
 * group of its own, and is to execute the script as the job's user. T is in its own PID namespace again when the
 * function returns. pid_hint: wanted pid of the script inside the pod, 0 = the next free one. -1 on failure, in T
 * only. */
int pod_start(const struct pod_spec *spec, pid_t pid_hint, struct pod *pod, pid_t *script_pid, struct err *err);

/* Starts an empty pod in which fsched-init runs criu's restore command and adopts the restored tree. */
struct pod_restore {
	char *const *argv;      /* of criu; argv[0] is an absolute path. NULL-terminated */
	char *const *envp;      /* complete environment of criu */
	int images_fd, work_fd; /* descriptors 10 and 11 in criu */
	int remote_call;        /* criu's end of the socket of trace/remote_call.h, descriptor 12 in criu; -1 = none */
	int ctl;      /* init's end of the control socket; the caller makes the socket and keeps the other end */
	int last_pid; /* value for ns_last_pid before criu is forked: above every pid in the images */
	/* Called as root in the new mount namespace, after the mounts are made. A result other than 0 aborts. */
	int (*pre)(void *arg, struct err *err);
	void *arg;
	/* pre makes up to this many descriptors, from POD_TERMINALS_FD on. fsched-init keeps them until criu has ended.
	 */
	int n_terminal_fds;
};
int pod_restore(const struct pod_spec *spec, const struct pod_restore *r, struct pod *pod, struct err *err);

/* Receives one message of the control socket into buf, NUL-terminated. 1 = a message, 0 = end of file, -1 with errno.
 */
int pod_recv(int ctl, char *buf, size_t len);

/* Lists the host pids of all processes of the pod except pid 1, also of processes in PID namespaces that the job made
 * itself. init: host pid of the pod's pid 1. Returns how many; the caller frees *pids. -1 with err. */
int pod_pids(pid_t init, pid_t **pids, struct err *err);

/* Host pid of the script's process, 0 if it has ended. The leader's first argument is its pid inside the pod. */
pid_t pod_script(pid_t init);

/* Moves pids into the cgroups of the caller, in every hierarchy in which they differ, and gives them its CPU affinity:
 * slurmstepd sets both only for the task that it knows. */
int pod_join_my_cgroups(const pid_t *pids, int n, struct err *err);
/* Moves the caller to the root cgroups as far as that is possible: it is no part of a job's step. */
void pod_leave_cgroups(void);

/* Sends SIGKILL to pid 1, upon which the kernel kills all processes of the pod, and waits up to timeout_ms until all
 * are gone. Does not reap init. */
int pod_kill(pid_t init, int timeout_ms, struct err *err);

#endif
