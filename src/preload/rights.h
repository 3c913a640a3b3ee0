/* With whose rights criu makes a system call (part of libfsched-criu.so, which is loaded into criu and only into criu).
 *
 * criu itself is root with the capabilities of CRIU_CAPS (rights.c), and no others. It needs them for its own images,
 * for /proc and for ptrace. What it does by a name of the job's goes through rights_as_user().
 *
 * A task that criu forks to become a process of the job (a *restored task*) gives root up in its first moment, in
 * rights_become_job(): all its user and group ids are the job's, and its effective capability set is empty. All objects
 * of the job (files, pipes, sockets, memfds, watches, terminals, timers) are opened and made in restored tasks, so the
 * kernel notes the job's user, without a capability, as their opener, owner and creator (struct file's f_cred, inode
 * owners, SO_PEERCRED, per-user limits). A few calls that only serve criu, or whose result is no object, get one
 * capability for the time of the call: rights_with().
 *
 * Such a task keeps capabilities in its permitted set until criu's restorer has put the job's own (empty) sets into
 * force. Until then no process of the user's can trace it or read its memory: the kernel asks for a superset of the
 * permitted capabilities (cap_ptrace_access_check()). Its user may stop or kill it, as any of his processes; then the
 * restore fails. */
#ifndef FSCHED_PRELOAD_RIGHTS_H
#define FSCHED_PRELOAD_RIGHTS_H

#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>

#define CAP(name) (UINT64_C(1) << CAP_##name)

/* FSCHED_JOB=UID:GID:GROUP,… is in criu's environment and the job is not root's: everything here has an effect. */
bool rights_on(void);
uint32_t rights_uid(void);

/* True in a restored task. */
bool rights_of_job(void);

/* In criu itself: the call with the job's user and groups and without a capability. -errno after a failure. */
long rights_as_user(long nr, long a, long b, long c, long d, long e);

/* In a restored task: the call with these capabilities in effect (elsewhere: the plain call). -errno after a failure.
 */
long rights_with(uint64_t caps, long nr, long a, long b, long c, long d, long e, long f);

/* In a restored task: the call with effective user id 0, which the kernel asks for where it lets nobody but root write
 * a sysctl. */
long rights_as_root(long nr, long a, long b, long c, long d, long e);

/* In a child that criu has forked with the pid of a process of the job: makes it a restored task. Ends the process if
 * anything fails. */
void rights_become_job(void);

/* In a restored task, right before criu's restorer takes over, which makes its system calls without asking anybody: the
 * capabilities that the restorer needs to put limits, ids, capabilities, seccomp filters and TCP connections into
 * force. Ends a process that is to become the job's and was never made a restored task. */
void rights_for_restorer(void);

#endif
