/* What a checkpoint cannot carry, found out before the job is frozen.
 *
 * Walks /proc of every process of the pod (a few hundred microseconds per process; nothing is stopped): a running srun (its tasks live
 * under another slurmstepd), GPU, RDMA and other devices (open or mapped), io_uring, a traced process, perf/KVM/userfaultfd descriptors,
 * processes in foreign namespaces, TCP connections to another host or to this job's own agent (a job cannot checkpoint itself).
 */
#ifndef FSCHED_POD_PREFLIGHT_H
#define FSCHED_POD_PREFLIGHT_H

#include <errno.h>
#include <sys/types.h>
#include "common/err.h"

#define PREFLIGHT_ASKER EDEADLK   /* err.num: it is not the job, but that the request comes from inside it */

/* 0 = nothing known against it. -1: err names process (pid in the pod and command), object, and what to do. agent_port: 0 = none. */
int preflight(const pid_t *pids, int n, pid_t init, int agent_port, struct err *err);

#endif
