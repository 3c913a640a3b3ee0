#include "cli/qualify/judge.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/util.h"

#define DIFFERENCES_TOLD 3

const char *judge_fail_about(enum qualify_fail f)
{
	switch (f) {
	case QUALIFY_KILL:
		return "SIGKILL for fsched's agent and with it all processes of the job, requeuehold, restart";
	case QUALIFY_REQUEUE: return "scontrol requeue";
	default: return "its node is set DOWN";
	}
}

/* The first trouble decides. */
static void judge_set(struct qualify_result *r, enum qualify_verdict v, bool *decided)
{
	if (!*decided)
		r->verdict = v;
	*decided = true;
}

static void judge_tell_differences(struct qualify_result *r, const struct qualify_run *run)
{
	const struct compare_result *d = &run->differences;
	unsigned told = d->n < DIFFERENCES_TOLD ? d->n : DIFFERENCES_TOLD;

	for (unsigned i = 0; i < told; i++)
		qualify_add(&r->reasons, "%s", d->text[i]);
	if (d->n > told)
		qualify_add(&r->reasons, "%u more difference%s", d->n - told, d->n - told == 1 ? "" : "s");
}

static void judge_tell_end(struct qualify_result *r, const struct qualify_run *run, const char *although)
{
	const int w = run->wait_status;

	if (WIFSIGNALED(w))
		qualify_add(&r->reasons, "job %u (%s) ended as %s, by signal %d%s", run->job,
			    qualify_kind_about(run->kind), run->state, WTERMSIG(w), although);
	else
		qualify_add(&r->reasons, "job %u (%s) ended as %s, with exit status %d%s", run->job,
			    qualify_kind_about(run->kind), run->state, WEXITSTATUS(w), although);
}

/* ---- undisturbed runs ---- */

static void judge_different_pod(struct qualify_result *r, const struct qualify_run *pod, bool *decided)
{
	const struct qualify_run *again = qualify_find_run(r, QUALIFY_AGAIN);

	if (again && again->trouble) {
		judge_set(r, QUALIFY_UNFINISHED, decided);
		qualify_add(&r->reasons, "%s", again->why);
	} else if (again && again->completed && again->compared == QUALIFY_SAME) {
		judge_set(r, QUALIFY_DIFFERS_IN_POD, decided);
		qualify_add(&r->reasons,
			    "two undisturbed runs without --checkpoint have the same results, one with it, and without any "
			    "checkpoint, has others:");
		judge_tell_differences(r, pod);
	} else {
		judge_set(r, QUALIFY_NOT_DETERMINISTIC, decided);
		qualify_add(&r->reasons,
			    "two undisturbed runs differ%s:", r->o->command ? ", says --compare-command" : "");
		judge_tell_differences(r, again && again->differences.n ? again : pod);
	}
}

static void judge_undisturbed(struct qualify_result *r, bool *decided)
{
	const struct qualify_run *plain = qualify_find_run(r, QUALIFY_PLAIN), *pod = qualify_find_run(r, QUALIFY_POD);

	if (!plain || plain->trouble || (plain->completed && (!pod || pod->trouble))) {
		judge_set(r, QUALIFY_UNFINISHED, decided);
		qualify_add(&r->reasons, "%s",
			    plain && plain->trouble ? plain->why
			    : pod && pod->trouble   ? pod->why
						    : r->why);
	} else if (!plain->completed) {
		judge_set(r, QUALIFY_PROGRAM_FAILED, decided);
		judge_tell_end(r, plain, "");
	} else if (!pod->completed) {
		judge_set(r, QUALIFY_DIFFERS_IN_POD, decided);
		judge_tell_end(r, pod, ", and the same without --checkpoint ended well");
	} else if (pod->compared != QUALIFY_SAME) {
		judge_different_pod(r, pod, decided);
	}
}

/* ---- runs with cycles ---- */

static void judge_trouble(struct qualify_result *r, const struct qualify_run *run, bool *decided)
{
	static const struct {
		enum qualify_trouble trouble;
		enum qualify_verdict verdict;
		const char *about;
	} rows[] = {
		{ QUALIFY_REFUSED, QUALIFY_WAS_REFUSED, "refused before the freeze: " },
		{ QUALIFY_NOT_SAVED, QUALIFY_WAS_NOT_SAVED, "the checkpoint failed: " },
		{ QUALIFY_NOT_RESTORED, QUALIFY_WAS_NOT_RESTORED, "not restored: " },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].trouble == run->trouble) {
			judge_set(r, rows[i].verdict, decided);
			qualify_add(&r->reasons, "job %u: %s%s", run->job, rows[i].about, run->why);
			return;
		}
	judge_set(r, QUALIFY_UNFINISHED, decided);
	qualify_add(&r->reasons, "%s", run->why);
}

static void judge_disturbed(struct qualify_result *r, enum qualify_kind kind, bool *decided)
{
	const struct qualify_run *run = qualify_find_run(r, kind);

	if (!run) {
		if (!*decided)
			qualify_add(&r->reasons, "%s", *r->why ? r->why : "not all runs were made");
		judge_set(r, QUALIFY_UNFINISHED, decided);
	} else if (run->trouble) {
		judge_trouble(r, run, decided);
	} else if (run->started_over) {
		judge_set(r, QUALIFY_WAS_NOT_RESTORED, decided);
		qualify_add(&r->reasons, "job %u was started over from the beginning", run->job);
	} else if (!run->completed) {
		judge_set(r, QUALIFY_DIFFERS, decided);
		judge_tell_end(r, run, ", and the undisturbed run ended well");
	} else if (run->compared != QUALIFY_SAME) {
		judge_set(r, QUALIFY_DIFFERS, decided);
		qualify_add(&r->reasons, "job %u (%s): the results are not those of an undisturbed run:", run->job,
			    qualify_kind_about(kind));
		judge_tell_differences(r, run);
	} else if (!qualify_cycles_done(run)) {
		judge_set(r, QUALIFY_TOO_SHORT, decided);
		qualify_add(&r->reasons, "job %u (%s) ended before a cycle was possible", run->job,
			    qualify_kind_about(kind));
	}
}

/* ---- measures ---- */

static void judge_measure(struct qualify_measure *m, int64_t value)
{
	if (value <= 0)
		return;
	m->mean = (m->mean * m->n + value) / (m->n + 1);
	m->n++;
	m->most = value > m->most ? value : m->most;
}

static void judge_slow_down(struct qualify_result *r)
{
	const struct qualify_run *pod = qualify_find_run(r, QUALIFY_POD);
	int64_t more = 0, runs = 0, cycles = 0;

	r->slower_ppm = r->cycle_cost_us = INT64_MIN;
	for (unsigned i = 0; pod && i < r->n_runs; i++) {
		const struct qualify_run *run = &r->runs[i];

		if ((run->kind != QUALIFY_VACATED && run->kind != QUALIFY_FAILED) || !run->completed ||
		    !run->has_record || !pod->has_record)
			continue;
		runs++;
		more += run->run_s - pod->run_s;
		cycles += qualify_cycles_done(run);
	}
	if (!cycles || pod->run_s < JUDGE_MEASURABLE_S)
		return;
	r->slower_ppm = more * 1000000 / (runs * pod->run_s);
	r->cycle_cost_us = more * 1000000 / cycles;
}

static void judge_measures(struct qualify_result *r)
{
	for (unsigned i = 0; i < r->n_runs; i++)
		for (unsigned k = 0; k < r->runs[i].n_cycles; k++) {
			const struct qualify_cycle *c = &r->runs[i].cycles[k];

			/* a job that leaves its node stands still until it is saved: that is no freeze */
			if (r->runs[i].kind == QUALIFY_FAILED && c->lost_us > 0)
				judge_measure(&r->frozen, c->frozen_us);
			judge_measure(&r->total, c->total_us);
			judge_measure(&r->bytes, (int64_t)c->bytes);
			judge_measure(&r->restore, c->restore_us);
		}
	judge_slow_down(r);
}

/* ---- remarks, and what was not tested ---- */

static void judge_remarks(struct qualify_result *r)
{
	for (unsigned i = 0; i < r->n_runs; i++) {
		const struct qualify_run *run = &r->runs[i];

		for (unsigned k = 0; k < run->n_cycles; k++) {
			const struct qualify_cycle *c = &run->cycles[k];

			r->moved |= c->done && strcmp(c->from, c->to) != 0;
			if (c->done && c->tries > 1)
				qualify_add(&r->remarks, "job %u: a checkpoint was made at try %u; before: %s",
					    run->job, c->tries, c->why);
		}
		if (run->n_cycles && !run->trouble && qualify_cycles_done(run) < r->o->cycles)
			qualify_add(&r->remarks, "job %u had %u of %u cycles: the program ended before the others",
				    run->job, qualify_cycles_done(run), r->o->cycles);
	}
	if (r->bytes_differ && r->o->command)
		qualify_add(&r->remarks, "undisturbed runs are not the same byte for byte; --compare-command decided");
	if (r->script_asks)
		qualify_add(&r->remarks, "script or options ask for --checkpoint, so no run was without");
}

static void judge_untested(struct qualify_result *r)
{
	if (r->o->same_node)
		qualify_add(&r->untested, "a restart on another node (--same-node)");
	else if (!r->other_node)
		qualify_add(&r->untested, "a restart on another node: the job can use no other node that is up");
	else if (!r->moved)
		qualify_add(&r->untested, "a restart on another node: none became free");
	if (r->o->failures && r->o->fail != QUALIFY_NODE)
		qualify_add(&r->untested,
			    "the failure of a node. The failures were: %s. What the kernel of a node that loses its power had "
			    "not written yet survived",
			    judge_fail_about(r->o->fail));
	if (r->o->failures && r->o->fail == QUALIFY_NODE)
		qualify_add(&r->untested,
			    "a node that loses its power: the node was set DOWN, and Slurm ended the job there");
	qualify_add(&r->untested, "other inputs, other sizes, and nodes under load");
}

static void judge_advise(struct qualify_result *r)
{
	switch (r->verdict) {
	case QUALIFY_QUALIFIED:
		qualify_add(
			&r->advice,
			"submit it with --checkpoint=INTERVAL, and test it again when program, libraries or kernel change");
		break;
	case QUALIFY_PROGRAM_FAILED:
		qualify_add(&r->advice,
			    "look at stdout and stderr of the run, and make the script end with exit status 0 in a copy of its "
			    "directory (--copy DIR)");
		break;
	case QUALIFY_NOT_DETERMINISTIC:
		qualify_add(&r->advice,
			    "if the difference does not matter, leave the file out (--ignore PATTERN), name the files that matter "
			    "(--compare FILE), or give a program that compares two runs (--compare-command CMD)");
		qualify_add(&r->advice,
			    "if it should not be there, fix the seed, or the number of threads, of the program");
		break;
	case QUALIFY_DIFFERS_IN_POD:
		qualify_add(&r->advice,
			    "a job with --checkpoint has its own /tmp, network, pids and srun: docs/admin.md and docs/user.md say "
			    "what differs");
		break;
	case QUALIFY_TOO_SHORT: qualify_add(&r->advice, "give it an input with which it runs for minutes"); break;
	case QUALIFY_WAS_REFUSED:
		qualify_add(
			&r->advice,
			"docs/user.md, \"Messages and what to do\", explains each reason. A job that is refused a checkpoint goes on");
		break;
	case QUALIFY_WAS_NOT_SAVED:
	case QUALIFY_WAS_NOT_RESTORED:
		qualify_add(&r->advice,
			    "docs/user.md, \"Messages and what to do\", explains the message; checkpoint.log of the job (fsched show "
			    "ID) has more: tell your administrator");
		break;
	case QUALIFY_DIFFERS:
		qualify_add(&r->advice,
			    "compare the directories of the runs. Times, pids of others, host names and the number of the job are "
			    "not the same after a restart");
		qualify_add(
			&r->advice,
			"if the difference does not matter: --ignore PATTERN, --compare FILE or --compare-command CMD");
		qualify_add(&r->advice, "do not rely on checkpoints of this program as it is");
		break;
	default: qualify_add(&r->advice, "remove the reason and run it again, with --seed for the same moments"); break;
	}
}

void judge(struct qualify_result *r)
{
	bool decided = false;

	judge_undisturbed(r, &decided);
	/* without well undisturbed runs there are no others */
	if (!decided && r->o->vacate)
		judge_disturbed(r, QUALIFY_VACATED, &decided);
	if ((!decided || qualify_find_run(r, QUALIFY_FAILED)) && r->o->failures)
		judge_disturbed(r, QUALIFY_FAILED, &decided);
	judge_set(r, QUALIFY_QUALIFIED, &decided);
	judge_measures(r);
	judge_remarks(r);
	judge_untested(r);
	judge_advise(r);
}

char *judge_sentence(const struct qualify_result *r, char *buf, size_t len)
{
	const struct qualify_run *v = qualify_find_run(r, QUALIFY_VACATED), *f = qualify_find_run(r, QUALIFY_FAILED);
	const char *name = r->script;

	switch (r->verdict) {
	case QUALIFY_QUALIFIED:
		snprintf(buf, len,
			 "QUALIFIED: after %u vacate%s and %u failure%s the results of %s are those of an undisturbed run%s",
			 v ? qualify_cycles_done(v) : 0, v && qualify_cycles_done(v) == 1 ? "" : "s",
			 f ? qualify_cycles_done(f) : 0, f && qualify_cycles_done(f) == 1 ? "" : "s", name,
			 r->o->command ? ", says --compare-command" : ", byte for byte");
		break;
	case QUALIFY_PROGRAM_FAILED: snprintf(buf, len, "NOT QUALIFIED: %s fails without any checkpoint", name); break;
	case QUALIFY_NOT_DETERMINISTIC:
		snprintf(buf, len, "NOT QUALIFIED: %s is not deterministic: two undisturbed runs differ", name);
		break;
	case QUALIFY_DIFFERS_IN_POD:
		snprintf(buf, len, "NOT QUALIFIED: %s gives other results with --checkpoint, before any checkpoint",
			 name);
		break;
	case QUALIFY_TOO_SHORT: snprintf(buf, len, "NOT QUALIFIED: %s is too short to be tested", name); break;
	case QUALIFY_WAS_REFUSED:
		snprintf(buf, len, "NOT QUALIFIED: checkpoints of %s are refused before the freeze", name);
		break;
	case QUALIFY_WAS_NOT_SAVED: snprintf(buf, len, "NOT QUALIFIED: a checkpoint of %s failed", name); break;
	case QUALIFY_WAS_NOT_RESTORED: snprintf(buf, len, "NOT QUALIFIED: %s was not restored", name); break;
	case QUALIFY_DIFFERS: snprintf(buf, len, "NOT QUALIFIED: %s gives other results after a restart", name); break;
	default: snprintf(buf, len, "UNFINISHED: nothing can be said of %s", name); break;
	}
	return buf;
}
