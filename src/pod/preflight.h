/* What a checkpoint cannot carry, found out before the job is frozen.
 *
 * Walks /proc of every process of the pod (a few hundred microseconds per process; nothing is stopped): a running srun
 * (its tasks live under another slurmstepd), GPU, RDMA and other devices (open or mapped), io_uring, a traced process,
 * perf/KVM/userfaultfd descriptors, processes in foreign namespaces or with other credentials than the job's, TCP
 * connections to another host or to this job's own agent (a job cannot checkpoint itself), and files that the job's
 * user could not open again at a restart: files of procfs and the kernel's other file systems (kernel_files.h), and
 * files whose permissions have changed (preflight_access.c).
 *
 * Processes with no_new_privs are stopped for a moment where the kernel has Landlock (preflight_confined.c); nothing
 * else is touched.
 */
#ifndef FSCHED_POD_PREFLIGHT_H
#define FSCHED_POD_PREFLIGHT_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/err.h"

#define PREFLIGHT_ASKER EDEADLK /* err.num: it is not the job, but that the request comes from inside it */

/* Everything is the caller's. */
struct preflight_job {
	const pid_t *pids; /* host pids of all processes */
	const int *inner;  /* the same inside the pod */
	int n;
	pid_t init;     /* host pid of the pod's pid 1 */
	int agent_port; /* 0 = none */
	bool hands_off; /* another worker is at the job's processes: none is stopped, and a tracer may be ours */
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	int n_groups;
};

/* 0 = nothing known against it. -1: err names process (pid in the pod and command), object, and what to do. */
int preflight(const struct preflight_job *job, struct err *err);

/* Once all processes stand still, and before criu enters any namespace of theirs: that of the first process are still
 * the pod's. (criu itself refuses a tree in more than one user namespace.) */
int preflight_stopped(const struct preflight_job *job, struct err *err);

#endif
