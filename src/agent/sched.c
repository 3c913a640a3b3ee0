#include "agent/sched.h"

#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/record_history.h"
#include "base/interval.h"
#include "base/log.h"
#include "base/util.h"
#include "policy/auto_interval.h"
#include "policy/load.h"
#include "base/clock.h"

#define SECOND            INT64_C(1000000)
#define SCHED_LOAD_WINDOW (SECOND / 2) /* over which the load is measured */

static void sched_on_timer(void *arg);

static void sched_arm(struct sched *s)
{
	int64_t at = schedule_wake_at(&s->schedule);

	if (s->may(s->arg) && at != SCHEDULE_NEVER)
		loop_timer_set(s->job->loop, &s->timer, at, sched_on_timer, s);
	else
		loop_timer_clear(s->job->loop, &s->timer);
}

static void sched_count_skipped(struct sched *s, unsigned n, const char *why)
{
	struct job *j = s->job;
	struct err err;

	if (!n)
		return;
	j->rec.skipped = s->schedule.skipped;
	record_history_skipped(j, n, why);
	job_log(j, "periodic checkpoint skipped (%u so far): %s", j->rec.skipped, why);
	if (j->store_ok && job_save(j, &err) < 0)
		log_warn("%s", err.text);
}

static void sched_put_off(struct sched *s, const char *why)
{
	bool first = !s->schedule.refused;
	unsigned n = schedule_refused(&s->schedule, now_us());

	if (first)
		job_log(s->job, "periodic checkpoint put off: %s", why);
	sched_count_skipped(s, n, why);
	if (n)
		s->changed(s->arg);
	sched_arm(s);
}

static void sched_warn_unmeasured(const struct err *err)
{
	log_warn("the node's load cannot be measured, the checkpoint is made: %s", err->text);
}

static void sched_on_load(void *arg)
{
	struct sched *s = arg;
	const struct conf *conf = &s->job->conf;
	const struct load_thresholds t = { .cpu = conf->load_cpu, .io = conf->load_io, .memory = conf->load_memory };
	struct load load;
	struct err err;
	char why[256];
	int rc = load_sample_end(s->sampler, &load, &err);

	s->sampler = NULL;
	if (!s->may(s->arg))
		return; /* somebody asked for a checkpoint meanwhile */
	if (rc < 0) {
		sched_warn_unmeasured(&err);
	} else if (load_decide(&t, &load, why, sizeof(why)) != LOAD_GO) {
		sched_put_off(s, why);
		return;
	}
	s->due(s->arg);
}

static bool sched_begin_measuring(struct sched *s)
{
	const struct task *t = &s->job->task;
	const struct load_known self = { .root = getpid(), .job_id = t->job_id, .cpus = t->cpus };
	struct err err;

	s->sampler = load_sample_begin("/proc", &self, 1, &err);
	if (!s->sampler) {
		sched_warn_unmeasured(&err);
		return false;
	}
	loop_timer_set(s->job->loop, &s->timer, now_us() + SCHED_LOAD_WINDOW, sched_on_load, s);
	return true;
}

static void sched_on_timer(void *arg)
{
	struct sched *s = arg;
	int64_t now = now_us();

	if (!s->may(s->arg))
		return; /* the end of the operation under way sets the timer again */
	if (!schedule_is_due(&s->schedule, now))
		sched_arm(s);
	else if (!s->job->conf.load_aware || schedule_must(&s->schedule, now) || !sched_begin_measuring(s))
		s->due(s->arg);
}

/* s, as the costs of the job's checkpoints are now. */
static int64_t sched_advised(const struct job *j)
{
	const struct auto_bounds b = { .mtbf = j->conf.mtbf, .min = j->conf.min_interval, .max = j->conf.auto_max };
	struct auto_cost cost;
	struct auto_advice a;

	auto_cost_of(&j->history, &cost);
	auto_advise(&cost, &b, &a);
	return a.interval;
}

/* After each checkpoint its cost is known better. The schedule stays as it is where that makes little difference, so
 * that due times do not move with each checkpoint. */
static void sched_adapt(struct sched *s)
{
	struct job *j = s->job;
	const int64_t better = j->task.interval == INTERVAL_AUTO ? sched_advised(j) : 0;
	char was[24], is[24];

	if (!better || s->schedule.retry || !auto_differs(j->every, better))
		return;
	job_log(j, "the interval is %s now, it was %s (--checkpoint=auto; fsched advise %u explains it)",
		interval_format(better, is, sizeof(is)), interval_format(j->every, was, sizeof(was)), j->task.job_id);
	j->every = better;
	schedule_change(&s->schedule, now_us(), better * SECOND);
	s->changed(s->arg);
}

void sched_start(struct sched *s)
{
	struct job *j = s->job;
	int64_t interval;
	uint32_t dice = 0;

	j->every = j->task.interval == INTERVAL_AUTO ? sched_advised(j) : 0;
	interval = (j->every ? j->every : j->task.interval) * SECOND;
	if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != sizeof(dice))
		dice = j->task.job_id * 2654435761U;
	schedule_init(&s->schedule, now_us(), interval, schedule_jitter(interval, dice), j->conf.max_skip,
		      j->rec.skipped);
	sched_arm(s);
}

void sched_op_begins(struct sched *s)
{
	sched_stop(s);
	sched_count_skipped(s, schedule_begun(&s->schedule, now_us()), "the node was too busy");
}

void sched_op_ended(struct sched *s, bool try_soon)
{
	schedule_finished(&s->schedule, now_us(), try_soon);
	sched_adapt(s);
	sched_arm(s);
}

void sched_stop(struct sched *s)
{
	load_sample_cancel(s->sampler);
	s->sampler = NULL;
	loop_timer_clear(s->job->loop, &s->timer);
}
