/* Part of libfsched-criu.so: the rights with which criu makes a system call.
 *
 * criu itself is root with the capabilities of CRIU_CAPS (rights.c), and no others. It needs them for its own images,
 * for /proc and for ptrace. Calls with a name of the job go through rights_as_user().
 *
 * A task that criu forks to become a process of the job (a *restored task*) first calls rights_become_job(), and is not
 * root from then on: all its user and group ids are those of the job, and its effective capability set is empty. All
 * objects of the job (files, pipes, sockets, memfds, watches, timers) are opened and made in restored tasks, but for
 * terminals (terminals.c).
 * So the kernel records the job's user, without a capability, as their opener, owner and creator (f_cred of struct
 * file, inode owners, SO_PEERCRED, per-user limits). A few calls that only serve criu, or that make no object, get a
 * capability for the time of the call: rights_with().
 *
 * A restored task keeps capabilities in its permitted set until criu's restorer has set the capability sets of the job,
 * which are empty. Until then no process of the user can trace it or read its memory: the kernel requires a superset of
 * the permitted capabilities (cap_ptrace_access_check()). Its user may stop or kill it like any other process of the
 * user; then the restore fails. */
#ifndef FSCHED_PRELOAD_RIGHTS_H
#define FSCHED_PRELOAD_RIGHTS_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>

#define CAP(name) (UINT64_C(1) << CAP_##name)

/* True if FSCHED_JOB=UID:GID:GROUP,… is in criu's environment and the job is not root's. Otherwise nothing here has an
 * effect. */
bool rights_on(void);
uint32_t rights_uid(void);

/* True in a restored task. */
bool rights_of_job(void);

/* For criu itself: makes the call with the job's user and groups and without a capability. Returns the result or
 * -errno.
 */
long rights_as_user(long nr, long a, long b, long c, long d, long e);

/* For a restored task: makes the call with the effective capabilities caps. In criu itself: makes the call. Returns the
 * result or -errno. */
long rights_with(uint64_t caps, long nr, long a, long b, long c, long d, long e, long f);

/* For a restored task: makes the call with the effective user id 0, which the kernel requires to write some sysctls,
 * and an NFS server to read criu's images. In criu itself: makes the call. */
long rights_as_root(long nr, long a, long b, long c, long d, long e);

/* For a child that criu has forked with the pid of a process of the job: makes it a restored task. Ends the process if
 * a step fails. */
void rights_become_job(void);

/* For a restored task, just before criu's restorer takes over. The restorer makes its system calls directly, so it gets
 * the capabilities that it needs to set limits, ids, capabilities, seccomp filters and the state of TCP connections.
 * Ends the process if it was not made a restored task before. */
void rights_for_restorer(void);

#endif
