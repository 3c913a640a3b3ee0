/* Preflight: has a thread confined itself with Landlock?
 *
 * criu does not support Landlock, so a restored thread would be unconfined. No file in /proc shows the confinement. But
 * a thread in a Landlock domain may not trace a process outside of the domain
 * (Documentation/userspace-api/landlock.rst), and kcmp(2) requires the right to trace. So each thread is made to call
 * kcmp() that compares the job's leader with itself. EPERM means that Landlock or another LSM confines the thread,
 * because the leader and the thread have the same user and no capabilities, and the leader is dumpable. Seccomp filters
 * are suspended for the call.
 *
 * A thread without no_new_privs and without capabilities cannot have confined itself and is not disturbed. Others are
 * stopped for about 100 us. */
#include "pod/preflight_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "base/proc.h"
#include "base/clock.h"
#include "trace/helper_task.h"
#include "trace/stop_threads.h"
#include "trace/tracer.h"

#define TRIES       3
#define STOP_MAX_US 500000 /* within which the threads of a process must stop */

/* FREE also if the thread has ended. */
enum verdict { FREE, CONFINED, UNCLEAR };

static bool kernel_has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 0 ||
	       (errno != ENOSYS && errno != EOPNOTSUPP);
}

/* tracer: of trace/tracer.h; tid: as the tracer sees it. */
static enum verdict confined_ask_thread(const struct suspect *t, int tracer, pid_t tid, struct err *err)
{
	const long args[6] = { LEADER_PID, LEADER_PID, KCMP_VM, 0, 0 };
	long result = 0;
	struct helper_task m;
	int rc;

	if (!t->comparable) {
		err_set(err, 0, "it has another group than the job's first process");
		return UNCLEAR;
	}
	rc = helper_task_enter(&m, tracer, tid, t->pid, err) ||
			     helper_task_call_thread(&m, "kcmp", SYS_kcmp, args, &result, err)
		     ? -1
		     : 0;
	if (helper_task_end(&m, rc ? NULL : err))
		rc = -1;
	if (!rc && result == -EPERM)
		return CONFINED;
	if (!rc && result)
		err_sys(err, (int)-result, "kcmp");
	return rc || result ? UNCLEAR : FREE;
}

static bool confined_is_stopped(const struct stopped_threads *stop, pid_t tid)
{
	for (size_t i = 0; i < stop->n; i++)
		if (stop->tids[i] == tid)
			return true;
	return false;
}

/* Asks the threads of one process that are suspects. Threads made since the scan inherit the confinement of their
 * creators. */
static enum verdict confined_ask_process(const struct suspect *t, size_t n, struct err *err)
{
	enum verdict v = FREE;
	struct stopped_threads stop = { 0 };

	if (stop_threads_add(&stop, t->pid, now_us() + STOP_MAX_US, err)) {
		v = kill(t->pid, 0) && errno == ESRCH ? FREE : UNCLEAR;
		n = 0;
	}
	for (size_t i = 0; i < n && v == FREE; i++)
		if (confined_is_stopped(&stop, t[i].tid))
			v = confined_ask_thread(&t[i], TRACER_SELF, t[i].tid, err);
	stop_threads_end(&stop);
	return v;
}

static enum verdict confined_ask_until_clear(const struct suspect *t, size_t n, struct err *err)
{
	enum verdict v = UNCLEAR;

	for (int i = 0; i < TRIES && v == UNCLEAR; i++)
		v = confined_ask_process(t, n, err);
	return v;
}

/* Checks that the leader is dumpable: otherwise every thread would get EPERM. /proc/PID of a process that is not
 * dumpable belongs to root. */
static int confined_check_leader(const struct preflight_scan *s, struct err *err)
{
	char name[32];
	struct stat st;

	snprintf(name, sizeof(name), "%d", s->leader);
	if (fstatat(s->proc, name, &st, 0))
		return err_set(err, ESRCH, "the job's first process is gone, the job is ending");
	if (st.st_uid == s->job->uid)
		return 0;
	return preflight_refuse(s->leader, err,
				"is not dumpable and so of no use to find out whether others are confined by Landlock",
				"tell the administrator");
}

static int confined_verdict(const struct preflight_scan *s, const struct suspect *t, enum verdict v,
			    const struct err *why, struct err *err)
{
	char what[256];

	if (v == FREE)
		return 0;
	if (v == CONFINED)
		return preflight_refuse(t->pid, err,
					"has confined itself (Landlock, or another security module of the kernel) "
					"and would be free after a restart",
					"run the program without its sandbox");
	snprintf(what, sizeof(what), "may have confined itself with Landlock, which fsched cannot find out (%.150s)",
		 why->text);
	return preflight_refuse(t->pid, err, what, "try again, or start it without no_new_privs");
}

int preflight_confined(const struct preflight_scan *s, struct err *err)
{
	size_t n;

	if (!s->n_suspects || s->job->hands_off || !kernel_has_landlock())
		return 0;
	if (confined_check_leader(s, err))
		return -1;
	for (size_t i = 0; i < s->n_suspects; i += n) {
		const struct suspect *t = &s->suspects[i];
		struct err why = { 0 };

		for (n = 1; i + n < s->n_suspects && t[n].pid == t->pid; n++)
			;
		if (confined_verdict(s, t, confined_ask_until_clear(t, n, &why), &why, err))
			return -1;
	}
	return 0;
}

/* criu has stopped all threads and is their tracer. */
int preflight_confined_stopped(const struct preflight_job *job, int tracer, struct err *err)
{
	cleanup_close int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct preflight_scan s = { .job = job, .proc = proc };
	int rc = 0;

	if (tracer < 0 || job->uid == 0 || !kernel_has_landlock())
		return 0;
	if (proc < 0)
		return err_sys(err, errno, "cannot open /proc");
	if (preflight_find_leader(&s, err))
		return -1;
	for (int i = 0; i < job->n && rc == 0; i++)
		rc = preflight_suspects(&s, job->pids[i], err);
	if (rc == 0 && s.n_suspects)
		rc = confined_check_leader(&s, err);
	for (size_t i = 0; i < s.n_suspects && rc == 0; i++) {
		struct err why = { 0 };

		rc = confined_verdict(&s, &s.suspects[i],
				      confined_ask_thread(&s.suspects[i], tracer,
							  proc_number(s.suspects[i].tid, "NSpid", 0), &why),
				      &why, err);
	}
	free(s.suspects);
	return rc;
}
