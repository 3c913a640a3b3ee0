/* The launcher's way through a step: signals, time limits, ends of tasks. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "launch/task_pty.h"
#include "launch/say.h"
#include "launch/step.h"

#define SECOND     INT64_C(1000000)
#define TOGETHER   (10 * 1000) /* us: tasks that end within it are told of in one line */
#define ABORT_MORE 2           /* s, after KillWait */
#define PASSES     64          /* of at most 64 KiB of each task or so */

/* Those that srun handles; every other does what it does to any program. */
static const int handled[] = { SIGINT, SIGQUIT, SIGCONT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGWINCH };

static volatile sig_atomic_t came[NSIG];

static void run_on_signal(int sig)
{
	came[sig] = 1;
}

/* The way of one step; the times are of now_us(), 0 = none. */
struct run {
	struct step *s;
	sigset_t open; /* signals while the launcher waits */
	int left;      /* tasks that run */
	int64_t interrupted, tell, limit, wait, kill, give_up;
	bool exited, terminating, aborted;
};

static void run_handle_signals(struct run *r)
{
	struct sigaction act = { .sa_handler = run_on_signal };
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(handled); i++) {
		sigaddset(&block, handled[i]);
		sigaction(handled[i], &act, NULL);
	}
	sigprocmask(SIG_BLOCK, &block, &r->open);
	for (size_t i = 0; i < ARRAY_SIZE(handled); i++)
		sigdelset(&r->open, handled[i]);
}

/* The line that Slurm's step daemon writes when a step is ended. */
static void run_say_cancelled(const struct run *r, const char *why)
{
	const struct step *s = r->s;
	char when[32];
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	say_step_error(s->job->node, "*** STEP %s.%d ON %s CANCELLED AT %s%s ***", s->job->id, s->id, s->job->node,
		       when, why);
}

/* The reasons that slurmstepd gives from 25.05 on. */
static const char *run_why_killed(void)
{
	return release_since(25, 5) ? " DUE to SIGNAL Killed" : "";
}

static const char *run_why_failed(void)
{
	return release_since(25, 5) ? " DUE TO TASK FAILURE" : "";
}

/* Ends the step: SIGTERM, and SIGKILL after KillWait; or SIGKILL at once. */
static void run_terminate(struct run *r, const char *why, bool now)
{
	struct step *s = r->s;

	if (!r->terminating)
		run_say_cancelled(r, why);
	r->terminating = true;
	step_signal(s, SIGCONT);
	step_signal(s, now ? SIGKILL : SIGTERM);
	if (!r->kill)
		r->kill = now_us() + (now ? SECOND : s->job->kill_wait * SECOND);
}

static void run_abort(struct run *r)
{
	if (r->aborted)
		return;
	r->aborted = true;
	say_info("Job step aborted: Waiting up to %d seconds for job step to finish.", r->s->job->kill_wait + ABORT_MORE);
	r->give_up = now_us() + (r->s->job->kill_wait + ABORT_MORE) * SECOND;
	run_terminate(r, run_why_killed(), true);
}

/* A task has called MPI_Abort(). Since 26.05 not srun ends the step, but slurmstepd by a request to slurmctld
 * (SIG_TERM_KILL): the tasks get SIGTERM and KillWait. srun only hears that they have ended by a signal. */
static void run_abort_by_task(struct run *r)
{
	if (!release_since(26, 5))
		run_abort(r);
	else if (!r->terminating)
		run_terminate(r, run_why_failed(), false);
}

enum task_state { RUNNING, FAILED, EXITED };

static enum task_state run_state(const struct task *t)
{
	return !t->ended ? RUNNING : t->status ? FAILED : EXITED;
}

static void run_say_tasks(const struct step *s, enum task_state state)
{
	static const char *const names[] = { "running", "exited abnormally", "exited" };
	int *ids = xcalloc((size_t)s->place.ntasks, sizeof(*ids)), n = 0;

	for (int i = 0; i < s->place.ntasks; i++)
		if (run_state(&s->tasks[i]) == state)
			ids[n++] = i;
	if (n) {
		cleanup_free char *list = exits_ids(ids, n);

		say_info("StepId=%s.%d %s %s: %s", s->job->id, s->id, n == 1 ? "task" : "tasks", list, names[state]);
	}
	free(ids);
}

static void run_say_status(const struct step *s)
{
	run_say_tasks(s, RUNNING);
	run_say_tasks(s, FAILED);
	run_say_tasks(s, EXITED);
}

static void run_force(struct run *r)
{
	say_info("forcing job termination");
	run_abort(r);
}

static void run_interrupt(struct run *r)
{
	const struct step *s = r->s;
	const int64_t before = r->interrupted;

	r->interrupted = now_us();
	if (s->o->quit_on_interrupt || (before && r->interrupted - before < SECOND)) {
		say_info("sending Ctrl-C to StepId=%s.%d", s->job->id, s->id);
		step_signal(s, SIGINT);
		r->s->exits.cancelled = true;
		run_force(r);
	} else if (s->o->disable_status) {
		say_info("sending Ctrl-C to StepId=%s.%d", s->job->id, s->id);
		step_signal(s, SIGINT);
	} else if (!s->exits.cancelled) {
		say_info("interrupt (one more within 1 sec to abort)");
		run_say_status(s);
	}
}

static void run_signal(struct run *r, int sig)
{
	switch (sig) {
	case SIGCHLD: break;
	case SIGINT: run_interrupt(r); break;
	case SIGQUIT:
		say_info("Quit");
		run_force(r);
		break;
	case SIGTERM:
	case SIGHUP: run_force(r); break;
	case SIGCONT: say_info("got SIGCONT"); break;
	case SIGWINCH:
		if (r->s->o->pty)
			pty_resize(r->s->pty);
		break;
	default: step_signal(r->s, sig);
	}
}

static void run_signals(struct run *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(handled); i++)
		if (came[handled[i]]) {
			came[handled[i]] = 0;
			run_signal(r, handled[i]);
		}
}

static void run_task_ended(struct run *r, pid_t pid, int status)
{
	struct step *s = r->s;

	for (int i = 0; i < s->place.ntasks; i++) {
		struct task *t = &s->tasks[i];

		if (t->pid != pid || t->ended)
			continue;
		t->ended = true;
		t->status = status;
		r->left--;
		if (!r->tell)
			r->tell = now_us() + TOGETHER;
		return;
	}
}

/* Orphans of the tasks come to the launcher too: step_run() has made it their reaper. */
static void run_reap(struct run *r)
{
	struct rusage used;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0) {
		run_task_ended(r, pid, status);
		if ((uint64_t)used.ru_maxrss > r->s->max_rss)
			r->s->max_rss = (uint64_t)used.ru_maxrss;
	}
}

/* What follows from the first task that ended, and from the first that failed. */
static void run_after_end(struct run *r, bool failed)
{
	const struct step *s = r->s;

	if (failed && s->o->kill_on_bad_exit && !r->terminating && r->left) {
		say_info("%sTerminating StepId=%s.%d", LAUNCH_SAID_BY, s->job->id, s->id);
		run_terminate(r, run_why_failed(), false);
	}
	if (!r->exited && s->o->wait > 0) {
		say_verbose("First task exited. Terminating job in %ds", s->o->wait);
		r->wait = now_us() + s->o->wait * SECOND;
	}
	r->exited = true;
}

/* Tells of the tasks that have ended: those with the same status in one line. */
static void run_tell(struct run *r)
{
	struct step *s = r->s;
	int *ids = xcalloc((size_t)s->place.ntasks, sizeof(*ids));

	r->tell = 0;
	for (int i = 0; i < s->place.ntasks; i++) {
		const int status = s->tasks[i].status;
		int n = 0;

		if (!s->tasks[i].ended || s->tasks[i].told)
			continue;
		for (int k = i; k < s->place.ntasks; k++)
			if (s->tasks[k].ended && !s->tasks[k].told && s->tasks[k].status == status) {
				s->tasks[k].told = true;
				ids[n++] = k;
			}
		exits_tell(&s->exits, ids, n, status);
		run_after_end(r, status != 0);
	}
	free(ids);
}

/* open: signals that are let in meanwhile; NULL: none, so that none can come between run_reap() and the wait after it.
 * False: nothing came in that time. */
static bool run_wait(struct run *r, int64_t us, const sigset_t *open)
{
	struct step *s = r->s;
	const size_t others = mpi_count(&s->mpi), n = forward_prepare(&s->forward, others);
	struct pollfd *mpi = &s->forward.polls[n];
	struct timespec t = { us / SECOND, us % SECOND * 1000 };
	int code;

	mpi_prepare(&s->mpi, mpi);
	if (ppoll(s->forward.polls, n + others, us < 0 ? NULL : &t, open) <= 0)
		return false;
	forward_work(&s->forward);
	if (mpi_work(&s->mpi, mpi, &code) && !r->terminating) {
		s->abort_code = code;
		run_abort_by_task(r);
	}
	/* Nobody reads the output any more. */
	if (forward_is_broken(&s->forward) && !r->terminating)
		run_terminate(r, run_why_killed(), true);
	return true;
}

/* What tasks that have ended have written comes before the message of their end. Others may write for ever. */
static void run_pass_on(struct run *r)
{
	for (int i = 0; i < PASSES && run_wait(r, 0, NULL); i++)
		;
}

/* Does what is due, and returns how long to wait for the next in us; -1 = nothing is due. */
static int64_t run_due(struct run *r)
{
	const int64_t now = now_us();
	struct step *s = r->s;
	int64_t *const times[] = { &r->tell, &r->limit, &r->wait, &r->kill };
	int64_t next = -1;

	if (r->tell && (now >= r->tell || !r->left)) {
		run_pass_on(r);
		run_tell(r);
	}
	if (r->limit && now >= r->limit) {
		r->limit = 0;
		run_terminate(r, " DUE TO TIME LIMIT", false);
	}
	if (r->wait && now >= r->wait) {
		r->wait = 0;
		if (r->left) {
			say_info("First task exited %ds ago", s->o->wait);
			run_say_status(s);
			say_info("%sTerminating StepId=%s.%d", LAUNCH_SAID_BY, s->job->id, s->id);
			run_abort(r);
		}
	}
	if (r->kill && now >= r->kill) {
		step_signal(s, SIGKILL);
		r->kill = now + SECOND;
	}
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		if (*times[i] && (next < 0 || *times[i] - now < next))
			next = *times[i] > now ? *times[i] - now : 0;
	return next;
}

static bool run_goes_on(const struct run *r)
{
	if (r->give_up && now_us() > r->give_up) {
		say_error("Timed out waiting for job step to complete");
		return false;
	}
	return r->left || r->tell || !forward_is_done(&r->s->forward);
}

void step_run(struct step *s)
{
	struct run r = { .s = s, .left = s->place.ntasks };

	exits_begin(&s->exits, s->job->node);
	run_handle_signals(&r);
	if (s->o->time_limit)
		r.limit = now_us() + s->o->time_limit * 60 * SECOND;
	for (;;) {
		int64_t next;

		/* Each time, because a restored process is no reaper any more. */
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		run_reap(&r);
		run_signals(&r);
		next = run_due(&r);
		if (!run_goes_on(&r))
			break;
		run_wait(&r, next, &r.open);
	}
	/* What the tasks have left behind, as Slurm ends it. */
	step_signal(s, SIGKILL);
	forward_finish(&s->forward);
	if (s->exits.signaled && !r.aborted)
		say_info("Force Terminated StepId=%s.%d", s->job->id, s->id);
}
