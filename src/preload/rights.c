/* Part of libfsched-criu.so: rights.h. */
#include "preload/rights.h"

#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/securebits.h>
#include <sys/syscall.h>

#include "preload/alone.h"
#include "preload/preload.h"
#include "trace/raw_syscall.h"

#define GROUPS_MAX 65536

/* What criu needs as root in a dump and in a restore. */
#define CRIU_CAPS                                                                                                      \
	(CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(KILL) | CAP(SETGID) | CAP(SETUID) | \
	 CAP(SETPCAP) | CAP(NET_ADMIN) | CAP(NET_RAW) | CAP(IPC_LOCK) | CAP(IPC_OWNER) | CAP(SYS_CHROOT) |             \
	 CAP(SYS_PTRACE) | CAP(SYS_ADMIN) | CAP(SYS_NICE) | CAP(SYS_RESOURCE) | CAP(SYS_TIME) | CAP(CHECKPOINT_RESTORE))

/* What criu's restorer needs:
 *
 * - limits (SYS_RESOURCE; IPC_LOCK for locked memory)
 *
 * - scheduling (SYS_NICE)
 *
 * - thread ids and the link to the program file (CHECKPOINT_RESTORE)
 *
 * - System V segments whose mode forbids attaching (IPC_OWNER)
 *
 * - the end of the repair mode of TCP sockets (NET_ADMIN)
 *
 * - seccomp filters of a process without no_new_privs (SYS_ADMIN)
 *
 * - ids and capability sets (SETUID, SETGID, SETPCAP) */
#define RESTORER_CAPS                                                                                                  \
	(CAP(SETGID) | CAP(SETUID) | CAP(SETPCAP) | CAP(NET_ADMIN) | CAP(IPC_LOCK) | CAP(IPC_OWNER) | CAP(SYS_ADMIN) | \
	 CAP(SYS_NICE) | CAP(SYS_RESOURCE) | CAP(CHECKPOINT_RESTORE))

/* What a restored task needs before: also criu's own /proc and root directory, the time namespace of the job, a raw
 * socket by which criu restores half-closed connections (NET_RAW), and the terminals that fsched-init has open
 * (SYS_PTRACE). */
#define TASK_CAPS (RESTORER_CAPS | CAP(NET_RAW) | CAP(SYS_CHROOT) | CAP(SYS_PTRACE) | CAP(SYS_TIME))

static struct {
	bool on;
	uint32_t uid, gid;
} job;
static bool in_task;
static uint64_t permitted; /* of this process */

static _Noreturn void rights_give_up(void)
{
	static const char text[] = "Error (fsched): criu cannot take on the rights of the job's user\n";

	raw_syscall(SYS_write, 2, (long)text, sizeof(text) - 1, 0, 0, 0);
	for (;;)
		raw_syscall(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static void rights_must(long ret)
{
	if (ret < 0)
		rights_give_up();
}

/* ---- capability sets ---------------------------------------------------- */

static const struct __user_cap_header_struct self = { .version = _LINUX_CAPABILITY_VERSION_3 };

static uint64_t rights_permitted_now(void)
{
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3];
	struct __user_cap_header_struct h = self;

	rights_must(raw_syscall(SYS_capget, (long)&h, (long)d, 0, 0, 0, 0));
	return (uint64_t)d[1].permitted << 32 | d[0].permitted;
}

static void rights_set_caps(uint64_t effective)
{
	const struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3] = {
		{ .effective = (uint32_t)effective, .permitted = (uint32_t)permitted },
		{ .effective = (uint32_t)(effective >> 32), .permitted = (uint32_t)(permitted >> 32) },
	};
	struct __user_cap_header_struct h = self;

	rights_must(raw_syscall(SYS_capset, (long)&h, (long)d, 0, 0, 0, 0));
}

/* ---- whose job it is ----------------------------------------------------- */

static uint32_t rights_number(const char **p)
{
	long n = preload_number(p, UINT32_MAX - 1L);

	rights_must(n);
	return (uint32_t)n;
}

static void rights_take_credentials(const char *p)
{
	static uint32_t groups[GROUPS_MAX];
	long n = 0;

	job.uid = rights_number(&p);
	if (*p++ != ':')
		rights_give_up();
	job.gid = rights_number(&p);
	if (*p++ != ':')
		rights_give_up();
	while (*p && n < GROUPS_MAX) {
		groups[n++] = rights_number(&p);
		p += *p == ',';
	}
	if (*p)
		rights_give_up();
	job.on = job.uid != 0;
	if (!job.on)
		return;
	/* The groups stay, because root does not need its own. */
	rights_must(raw_syscall(SYS_setgroups, n, (long)groups, 0, 0, 0, 0));
	permitted = rights_permitted_now() & CRIU_CAPS;
	rights_set_caps(permitted);
}

/* The priority makes it run before the constructors of the other files. */
__attribute__((constructor(200))) static void rights_begin(int argc, char **argv, char **envp)
{
	const char *value;

	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if ((value = preload_after(*envp, "FSCHED_JOB=")))
			rights_take_credentials(value);
}

bool rights_on(void)
{
	return job.on;
}

uint32_t rights_uid(void)
{
	return job.uid;
}

bool rights_of_job(void)
{
	return in_task;
}

/* ---- calls ---------------------------------------------------------------- */

/* When the effective user id changes from 0 to another one and back, the kernel clears and restores the effective
 * capability set (capabilities(7)). The real and the saved id stay root's, so the user cannot signal criu meanwhile. He
 * cannot renice it or set its CPU affinity either: for that the kernel also asks for a superset of the permitted
 * capabilities (cap_task_setnice()). The kernel clears PR_SET_PDEATHSIG when the ids change, so it is set again. */
long rights_as_user(long nr, long a, long b, long c, long d, long e)
{
	int sig = 0;
	long ret;

	raw_syscall(SYS_prctl, PR_GET_PDEATHSIG, (long)&sig, 0, 0, 0, 0);
	rights_must(raw_syscall(SYS_setresgid, -1, job.gid, -1, 0, 0, 0));
	rights_must(raw_syscall(SYS_setresuid, -1, job.uid, -1, 0, 0, 0));
	ret = raw_syscall(nr, a, b, c, d, e, 0);
	rights_must(raw_syscall(SYS_setresuid, -1, 0, -1, 0, 0, 0));
	rights_must(raw_syscall(SYS_setresgid, -1, 0, -1, 0, 0, 0));
	if (sig)
		raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, sig, 0, 0, 0, 0);
	return ret;
}

long rights_with(uint64_t caps, long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;

	if (!in_task || !caps)
		return raw_syscall(nr, a, b, c, d, e, f);
	rights_set_caps(caps & permitted);
	ret = raw_syscall(nr, a, b, c, d, e, f);
	rights_set_caps(0);
	return ret;
}

/* The entries of /proc/self of a process that is not dumpable belong to root. Being dumpable gives nobody access, see
 * rights.h. */
static void rights_be_dumpable(void)
{
	rights_must(raw_syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0));
}

long rights_as_root(long nr, long a, long b, long c, long d, long e)
{
	long ret;

	if (!in_task)
		return raw_syscall(nr, a, b, c, d, e, 0);
	rights_set_caps(CAP(SETUID) | CAP(CHECKPOINT_RESTORE));
	rights_must(raw_syscall(SYS_setresuid, -1, 0, -1, 0, 0, 0));
	ret = raw_syscall(nr, a, b, c, d, e, 0);
	rights_must(raw_syscall(SYS_setresuid, -1, job.uid, -1, 0, 0, 0));
	rights_set_caps(0);
	rights_be_dumpable();
	return ret;
}

/* The session keyring of the process that has started fsched on the node (slurmd) is not the job's. Gives the task what
 * pam_keyinit gives to a login: a session keyring of its own with a link to the user's keyring. A kernel without keys
 * needs nothing. */
static void rights_join_own_keyring(void)
{
	long ret = raw_syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0);

	if (ret == -ENOSYS || ret == -EOPNOTSUPP)
		return;
	rights_must(ret);
	raw_syscall(SYS_keyctl, KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING, 0, 0, 0);
}

/* The user may send it a signal that ends it with a core, and the core would have criu's memory in it. 1 byte: of 0 a
 * core that goes to a program (core_pattern "|…") is made all the same. criu's restorer sets what the job had, when
 * that memory is gone; the hard limit, with which the user could raise the soft one before, only where root can do so.
 */
static void rights_forbid_core(void)
{
	struct {
		uint64_t cur, max;
	} limit;

	if (raw_syscall(SYS_prlimit64, 0, RLIMIT_CORE, 0, (long)&limit, 0, 0))
		return;
	limit.cur = limit.max > 1 ? 1 : limit.max;
	if (permitted & CAP(SYS_RESOURCE))
		limit.max = limit.cur;
	raw_syscall(SYS_prlimit64, 0, RLIMIT_CORE, (long)&limit, 0, 0, 0);
}

void rights_become_job(void)
{
	if (!job.on)
		return;
	if (in_task) { /* forked by a restored task, in rights_with() */
		rights_set_caps(0);
		return;
	}
	rights_forbid_core();
	rights_must(raw_syscall(SYS_prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0, 0));
	rights_must(raw_syscall(SYS_setresgid, job.gid, job.gid, job.gid, 0, 0, 0));
	rights_must(raw_syscall(SYS_setresuid, job.uid, job.uid, job.uid, 0, 0, 0));
	permitted &= TASK_CAPS;
	rights_set_caps(0);
	rights_be_dumpable();
	in_task = true;
	rights_join_own_keyring();
	rights_must(alone_forbid());
}

void rights_for_restorer(void)
{
	if (!job.on)
		return;
	/* This criu forks the processes of the job in a way that the library does not know. */
	if (!in_task)
		rights_give_up();
	permitted &= RESTORER_CAPS;
	rights_set_caps(permitted);
}
