/* Finds what a checkpoint cannot save, before the job is frozen.
 *
 * preflight() reads /proc of every process of the pod, a few hundred microseconds per process, while the job runs. It
 * refuses:
 * - a running srun, because its tasks run under another slurmstepd
 * - GPUs, RDMA and other devices, open or mapped
 * - terminals from outside the pod: of a login, of the node's devpts, consoles; and /dev/tty (preflight_tty.c)
 * - io_uring, and descriptors of perf, KVM and userfaultfd
 * - a traced process
 * - processes in foreign namespaces, or with other credentials than the job's
 * - TCP connections to this job's own agent (a job cannot checkpoint itself), and, unless they are to be closed, to
 *   other hosts and other processes of the node
 * - files that the job's user could not open again at a restart: files of procfs and of the kernel's other file systems
 *   (kernel_files.h), and files whose permissions have changed (preflight_access.c)
 * - threads confined by Landlock (preflight_confined.c). To find out, processes with no_new_privs are stopped for a
 *   moment where the kernel has Landlock; no other process is disturbed. In the freeze they are asked
 *   again.
 */
#ifndef FSCHED_POD_PREFLIGHT_H
#define FSCHED_POD_PREFLIGHT_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/err.h"

#define PREFLIGHT_ASKER EDEADLK /* err.num: the job could be saved, but the request comes from inside it */

/* All memory belongs to the caller. */
struct preflight_job {
	const pid_t *pids; /* host pids of all processes */
	const int *inner;  /* the same processes' pids inside the pod */
	int n;
	pid_t init;     /* host pid of the pod's pid 1 */
	int agent_port; /* 0 = none */
	bool tcp_close; /* connections to processes outside the job are closed in the restored job */
	bool hands_off; /* another worker works on the job's processes: stop none, and accept a tracer, which may be
			   that worker's */
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	int n_groups;
};

/* 0 if nothing prevents a checkpoint. -1: err names the process (pid in the pod and command), the object, and what to
 * do. */
int preflight(const struct preflight_job *job, struct err *err);

/* To be called when all processes are stopped and before criu enters any of their namespaces: checks that the
 * namespaces of the first process are still the pod's. (criu itself refuses a tree in more than one user namespace.) */
int preflight_stopped(const struct preflight_job *job, struct err *err);

struct mount_table;
/* Checks that criu's images refer to no file that the job's user could not open again (kernel_files.h). The images say
 * what a restore opens; the job may have opened other files since preflight(). mounts: those of the pod, or of the node
 * on which it is to be restored. -1: err names process, descriptor and path. */
int preflight_images(int images_fd, const struct mount_table *mounts, struct err *err);
/* In the freeze, by way of criu, whose requests tracer takes (trace/tracer.h; negative: nothing is done): checks that
 * no thread with no_new_privs has confined itself since preflight(). */
int preflight_confined_stopped(const struct preflight_job *job, int tracer, struct err *err);

#endif
