#include "cli/qualify/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/qualify/compare_runs.h"
#include "cli/qualify/copy_dir.h"
#include "cli/qualify/cycle.h"
#include "cli/qualify/measure.h"

#define RUN_DIRECTORY "fsched-qualify."
#define RUN_FAIL_MOST INT64_C(30000000) /* us, the most between a checkpoint and the failure */

/* ---- directories ---- */

static int run_make_base(struct session *s, struct err *err)
{
	cleanup_free char *real = NULL;

	if (s->o->directory) {
		if (mkdir(s->o->directory, 0700) < 0)
			return err_sys(err, errno, "cannot make directory %s", s->o->directory);
		real = realpath(s->o->directory, NULL);
	} else {
		char made[] = RUN_DIRECTORY "XXXXXX";

		if (!mkdtemp(made))
			return err_sys(err, errno, "cannot make a directory for the runs in the current one");
		real = realpath(made, NULL);
	}
	if (!real)
		return err_sys(err, errno, "cannot find the directory for the runs");
	s->dir = steal_ptr(&real);
	snprintf(s->r->directory, sizeof(s->r->directory), "%.4095s", s->dir);
	s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return err_sys(err, errno, "cannot open directory %s", s->dir);
	if (strpbrk(s->dir, "%\\")) /* in the names of output files these are special to Slurm */
		return err_set(err, EINVAL,
			       "the directory of the runs, %s, has a %% or \\ in its name: use --directory", s->dir);
	return 0;
}

static int run_save_script(struct session *s, const char *text, size_t len, struct err *err)
{
	const char *slash = strrchr(s->o->script, '/'), *name = slash ? slash + 1 : s->o->script;
	cleanup_close int dir = -1;

	if (mkdirat(s->dirfd, "script", 0700) < 0 ||
	    (dir = openat(s->dirfd, "script", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
	    write_file_atomic(dir, name, 0700, (gid_t)-1, text, len) < 0)
		return err_sys(err, errno, "cannot copy the script to %s/script", s->dir);
	s->script = xasprintf("%s/script/%s", s->dir, name);
	return 0;
}

static int run_copy_input(struct session *s, struct err *err)
{
	cleanup_close int from = open(s->o->copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = -1;
	struct copy_dir c = { .left = s->o->copy_limit, .skip = RUN_DIRECTORY };
	struct stat st;
	char size[16];

	if (from < 0)
		return err_sys(err, errno, "cannot open directory %s", s->o->copy);
	if (mkdirat(s->dirfd, "input", 0700) < 0 ||
	    (to = openat(s->dirfd, "input", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || fstat(s->dirfd, &st) < 0)
		return err_sys(err, errno, "cannot make directory %s/input", s->dir);
	c.skip_dev = st.st_dev;
	c.skip_ino = st.st_ino;
	if (copy_dir(&c, from, to, s->o->copy, err) < 0)
		return err->num != EFBIG
			       ? -1
			       : err_set(err, EFBIG,
					 "%s has more than %s or more than %d files, and each run gets a copy of it: give a "
					 "directory with what the script needs (--copy DIR), none (--no-copy), or another "
					 "limit (--copy-limit)",
					 s->o->copy, format_size(s->o->copy_limit, size, sizeof(size)), COPY_ENTRIES_MAX);
	if (c.skipped)
		session_say(s, "%u socket%s or device%s of %s not copied", c.skipped, c.skipped == 1 ? "" : "s",
			    c.skipped == 1 ? " is" : "s are", s->o->copy);
	return 0;
}

int run_prepare(struct session *s, const char *script_text, size_t script_len, struct err *err)
{
	if (run_make_base(s, err) < 0 || run_save_script(s, script_text, script_len, err) < 0)
		return -1;
	return s->o->copy ? run_copy_input(s, err) : 0;
}

/* Makes the directory of a run. *path is owned by the caller. */
static int run_make_dir(struct session *s, enum qualify_kind kind, char **path, struct err *err)
{
	const char *name = qualify_kind_name(kind);
	cleanup_close int dir = -1, work = -1, input = -1;
	struct copy_dir c = { .left = UINT64_MAX };

	*path = xasprintf("%s/%s", s->dir, name);
	if (mkdirat(s->dirfd, name, 0700) < 0 || (dir = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
	    mkdirat(dir, "work", 0700) < 0 || (work = openat(dir, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_sys(err, errno, "cannot make directory %s", *path);
	if (!s->o->copy)
		return 0;
	input = openat(s->dirfd, "input", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (input < 0)
		return err_sys(err, errno, "cannot open directory %s/input", s->dir);
	return copy_dir(&c, input, work, "input", err);
}

/* ---- a run ---- */

static bool run_trouble(struct session *s, struct qualify_run *run, enum qualify_trouble t, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static bool run_trouble(struct session *s, struct qualify_run *run, enum qualify_trouble t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run->trouble = session_trouble(s, t, run->why, sizeof(run->why), fmt, ap);
	va_end(ap);
	return false;
}

static bool run_check_wait(struct session *s, struct qualify_run *run, const struct qualify_job *j, enum qualify_wait w,
			   const char *option, const struct err *err)
{
	switch (w) {
	case QUALIFY_READY: return true;
	case QUALIFY_LOST: return run_trouble(s, run, QUALIFY_STOPPED, "%s", err->text);
	case QUALIFY_LATE:
		return run_trouble(s, run, QUALIFY_STOPPED, "job %u did not %s within %s; Slurm shows it as %s%s%s",
				   j->id, strcmp(option, "--queue-wait") == 0 ? "start" : "end", option, j->slurm.state,
				   *j->slurm.reason ? ", " : "", j->slurm.reason);
	default: return run_trouble(s, run, QUALIFY_STOPPED, " ");
	}
}

static bool run_wait_start(struct session *s, struct qualify_run *run, struct qualify_job *j)
{
	struct err err;
	const enum qualify_wait w = qualify_job_wait(s, j, qualify_job_runs, "waiting for its start",
						     now_us() + s->o->queue_wait * 1000000, &err);

	if (!run_check_wait(s, run, j, w, "--queue-wait", &err))
		return false;
	snprintf(run->node, sizeof(run->node), "%.63s", j->slurm.batch_host);
	if (!s->r->other_node && !s->o->same_node) {
		struct slurm_job asked = j->slurm;

		asked.exc_nodes = j->exc_nodes;
		asked.req_nodes = j->req_nodes;
		s->r->other_node = rpc_other_nodes(&asked, run->node, NULL) > 0;
	}
	return true;
}

static bool run_wait_end(struct session *s, struct qualify_run *run, struct qualify_job *j)
{
	struct err err;
	const enum qualify_wait w = qualify_job_wait(s, j, NULL, qualify_kind_about(run->kind),
						     now_us() + s->o->run_wait * 1000000, &err);

	return run_check_wait(s, run, j, w, "--run-wait", &err);
}

static void run_note_end(struct session *s, struct qualify_run *run, const struct qualify_job *j)
{
	char span[24];

	s->job = 0;
	rpc_job_state_text(&j->slurm, run->state, sizeof(run->state));
	run->wait_status = j->slurm.wait_status;
	run->completed = strcmp(j->slurm.state, "COMPLETED") == 0;
	if (*j->slurm.batch_host)
		snprintf(run->node, sizeof(run->node), "%.63s", j->slurm.batch_host);
	if (j->slurm.end_time > j->slurm.start_time && j->slurm.start_time)
		run->run_s = j->slurm.end_time - j->slurm.start_time;
	measure_run(s->conf, run);
	session_say(s, "job %u: %s, ran for %s", run->job, run->state,
		    format_duration(run->run_s * 1000000, span, sizeof(span)));
}

static bool run_check_undisturbed(struct session *s, struct qualify_run *run, const struct qualify_job *j)
{
	if (j->slurm.restart_count || run->started_over)
		return run_trouble(s, run, QUALIFY_STOPPED, "Slurm has requeued job %u, so that it was not undisturbed",
				   j->id);
	return true;
}

/* Returns the us for which it was seen to run. */
static int64_t run_undisturbed(struct session *s, struct qualify_run *run, struct qualify_job *j)
{
	int64_t began;

	if (!run_wait_start(s, run, j))
		return 0;
	began = now_us();
	session_say(s, "job %u: runs on %s", j->id, run->node);
	if (!run_wait_end(s, run, j))
		return 0;
	run_note_end(s, run, j);
	run_check_undisturbed(s, run, j);
	return now_us() - began;
}

static void run_say_cycle(struct session *s, const struct qualify_run *run, unsigned i)
{
	const struct qualify_cycle *c = &run->cycles[i];
	char at[24], frozen[24], size[16];

	if (!c->done) {
		session_say(s, "job %u: cycle %u of %u: %s", run->job, i + 1, s->o->cycles, c->why);
		return;
	}
	session_say(s, "job %u: cycle %u of %u, after %s: epoch %u (%s, frozen %s), restored on %s", run->job, i + 1,
		    s->o->cycles, format_duration(c->at_us, at, sizeof(at)), c->epoch,
		    format_size(c->bytes, size, sizeof(size)), format_duration(c->frozen_us, frozen, sizeof(frozen)),
		    c->to);
}

/* Waits for the moment. False: the job is over, or run->trouble. */
static bool run_wait_moment(struct session *s, struct qualify_run *run, struct qualify_job *j,
			    const struct cycle_clock *k, int64_t moment)
{
	const int64_t left = moment - cycle_run_time(k);
	struct err err;

	switch (qualify_job_wait(s, j, NULL, qualify_kind_about(run->kind), now_us() + (left > 0 ? left : 0), &err)) {
	case QUALIFY_LATE: return true;
	case QUALIFY_READY: return false;
	case QUALIFY_LOST: return run_trouble(s, run, QUALIFY_STOPPED, "%s", err.text);
	default: return run_trouble(s, run, QUALIFY_STOPPED, " ");
	}
}

/* length: us for which the program runs. */
static void run_disturbed(struct session *s, struct qualify_run *run, struct qualify_job *j, int64_t length)
{
	const bool failure = run->kind == QUALIFY_FAILED;
	const int64_t most = length / 5 + 1 < RUN_FAIL_MOST ? length / 5 + 1 : RUN_FAIL_MOST;
	int64_t moments[QUALIFY_CYCLES_MAX];
	struct cycle_clock k = { 0 };

	/* independent of what was drawn in the run before */
	s->random.state = s->o->seed + (uint64_t)run->kind;
	moments_make(&s->random, length, s->o->cycles, moments);
	if (!run_wait_start(s, run, j))
		return;
	session_say(s, "job %u: runs on %s", j->id, run->node);
	k.since = now_us();
	for (unsigned i = 0; i < s->o->cycles; i++) {
		struct qualify_cycle *c = &run->cycles[i];

		if (!run_wait_moment(s, run, j, &k, moments[i]))
			break;
		run->n_cycles = i + 1;
		cycle_make(s, j, c, &k, failure, moments_below(&s->random, most), i % 2 == 0);
		run_say_cycle(s, run, i);
		if (!c->done && c->trouble != QUALIFY_ENDED)
			run_trouble(s, run, c->trouble, "%s", c->why);
		if (!c->done)
			break;
	}
	if (!run->trouble && run_wait_end(s, run, j))
		run_note_end(s, run, j);
}

/* What is left of the run in Slurm, on the node and in the checkpoint directory. */
static void run_clean(struct session *s, struct qualify_run *run)
{
	char id[16], conf_option[] = "--conf";
	char *argv[] = { (char[]){ "/proc/self/exe" },
			 (char[]){ "prune" },
			 (char[]){ "--all" },
			 id,
			 s->o->conf ? conf_option : NULL,
			 (char *)(uintptr_t)s->o->conf,
			 NULL };
	struct err err;

	if (cycle_resume_node(s, &err) < 0)
		session_say(s, "node %s: %s: scontrol update NodeName=%s State=RESUME", s->node_down, err.text,
			    s->node_down);
	if (s->job) {
		qualify_job_cancel(s);
		measure_run(s->conf, run);
	}
	if (!run->has_record || s->o->keep)
		return;
	snprintf(id, sizeof(id), "%u", run->job);
	if (session_do(argv, "its epochs stay", "fsched prune: ", &err) < 0)
		session_say(s, "job %u: %s", run->job, err.text);
}

/* Returns the us for which an undisturbed run was seen to run. */
static int64_t run_make(struct session *s, enum qualify_kind kind, int64_t length)
{
	struct qualify_run *run = &s->r->runs[s->r->n_runs++];
	const bool pod = s->r->script_asks || (kind != QUALIFY_PLAIN && kind != QUALIFY_AGAIN);
	cleanup_free char *dir = NULL;
	struct qualify_job j = { 0 };
	int64_t ran = 0;
	struct err err;

	*run = (struct qualify_run){ .kind = kind, .cycles = xcalloc(s->o->cycles, sizeof(struct qualify_cycle)) };
	if (run_make_dir(s, kind, &dir, &err) < 0 || qualify_job_submit(s, dir, pod, &j, &err) < 0) {
		run_trouble(s, run, QUALIFY_STOPPED, "%s", err.text);
		session_say(s, "%s", run->why);
		return 0;
	}
	run->job = j.id;
	session_say(s, "job %u: submitted (%s)", j.id, qualify_kind_about(kind));
	if (kind == QUALIFY_VACATED || kind == QUALIFY_FAILED)
		run_disturbed(s, run, &j, length);
	else
		ran = run_undisturbed(s, run, &j);
	if (run->trouble == QUALIFY_STOPPED && !session_stops(s))
		session_say(s, "%s", run->why);
	run_clean(s, run);
	qualify_job_free(&j);
	return ran;
}

/* ---- all ---- */

static bool run_is_well(const struct session *s)
{
	const struct qualify_run *run = &s->r->runs[s->r->n_runs - 1];

	return !run->trouble && run->completed && !session_stops(s);
}

static bool run_compare(struct session *s, struct qualify_run *run)
{
	struct err err;

	session_doing(s, "comparing the results");
	if (compare_runs(s, run, &err) < 0) {
		run_trouble(s, run, QUALIFY_STOPPED, "%s", err.text);
		session_say(s, "%s", run->why);
		return false;
	}
	session_say(s, "job %u: its results are %s", run->job, run->compared == QUALIFY_SAME ? "the same" : "different");
	return run->compared == QUALIFY_SAME;
}

/* Both undisturbed runs, and a third if they differ. Returns the length of the program, 0 = it makes no sense to go on.
 */
static int64_t run_references(struct session *s)
{
	int64_t length;

	run_make(s, QUALIFY_PLAIN, 0);
	if (!run_is_well(s))
		return 0;
	length = run_make(s, QUALIFY_POD, 0);
	if (!run_is_well(s))
		return 0;
	if (run_compare(s, &s->r->runs[1]))
		return length;
	if (!s->r->runs[1].trouble && !s->r->script_asks) {
		run_make(s, QUALIFY_AGAIN, 0);
		if (run_is_well(s))
			run_compare(s, &s->r->runs[2]);
	}
	return 0;
}

void run_all(struct session *s)
{
	const int64_t length = run_references(s);

	for (int failure = 0; length && failure < 2; failure++) {
		if (!(failure ? s->o->failures : s->o->vacate))
			continue;
		run_make(s, failure ? QUALIFY_FAILED : QUALIFY_VACATED, length);
		if (s->r->runs[s->r->n_runs - 1].trouble || session_stops(s))
			return;
		if (s->r->runs[s->r->n_runs - 1].completed)
			run_compare(s, &s->r->runs[s->r->n_runs - 1]);
	}
}
