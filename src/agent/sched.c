/* Periodic checkpoints: policy/schedule.h says when, policy/load.h whether the node is too busy. */
#include "agent/agent.h"

#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/clock.h"

#define SECOND INT64_C(1000000)
#define WINDOW (SECOND / 2) /* over which the load is measured */

static void on_timer(void *arg);

static void arm(struct agent *a)
{
	int64_t at = schedule_wake_at(&a->sched.s);

	if (a->phase == PHASE_RUNNING && !a->op.active && !*a->pod.lost && at != SCHEDULE_NEVER)
		loop_timer_set(&a->loop, &a->sched.timer, at, on_timer, a);
	else
		loop_timer_clear(&a->loop, &a->sched.timer);
}

static void count_skipped(struct agent *a, unsigned n, const char *why)
{
	struct err err;

	if (!n)
		return;
	a->rec.skipped = a->sched.s.skipped;
	job_log(a, "periodic checkpoint skipped (%u so far): %s", a->rec.skipped, why);
	if (a->store_ok && job_save(a, &err) < 0)
		log_warn("%s", err.text);
}

static void refuse(struct agent *a, const char *why)
{
	bool first = !a->sched.s.refused;
	unsigned n = schedule_refused(&a->sched.s, now_us());

	if (first)
		job_log(a, "periodic checkpoint put off: %s", why);
	count_skipped(a, n, why);
	if (n)
		publish_now(a);
	arm(a);
}

static void on_measured(void *arg)
{
	struct agent *a = arg;
	const struct load_thresholds t = { .cpu = a->conf.load_cpu, .io = a->conf.load_io, .memory = a->conf.load_memory };
	struct load load;
	struct err err;
	char why[256];
	int rc = load_sample_end(a->sched.sampler, &load, &err);

	a->sched.sampler = NULL;
	if (a->op.active)
		return; /* somebody asked for one meanwhile */
	if (rc < 0)
		log_warn("the node's load cannot be measured, the checkpoint is made: %s", err.text);
	else if (load_decide(&t, &load, why, sizeof(why)) != LOAD_GO) {
		refuse(a, why);
		return;
	}
	op_start(a, OP_PERIODIC, NULL);
}

static bool measure(struct agent *a)
{
	const struct load_known self = { .root = getpid(), .job_id = a->task.job_id, .cpus = a->task.cpus };
	struct err err;

	a->sched.sampler = load_sample_begin("/proc", &self, 1, &err);
	if (!a->sched.sampler) {
		log_warn("the node's load cannot be measured, the checkpoint is made: %s", err.text);
		return false;
	}
	loop_timer_set(&a->loop, &a->sched.timer, now_us() + WINDOW, on_measured, a);
	return true;
}

static void on_timer(void *arg)
{
	struct agent *a = arg;
	int64_t now = now_us();

	if (a->op.active)
		return; /* its end sets the timer again */
	if (!schedule_is_due(&a->sched.s, now))
		arm(a);
	else if (!a->conf.load_aware || schedule_must(&a->sched.s, now) || !measure(a))
		op_start(a, OP_PERIODIC, NULL);
}

void sched_start(struct agent *a)
{
	int64_t interval = a->task.interval * SECOND;
	uint32_t dice = 0;

	if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != sizeof(dice))
		dice = a->task.job_id * 2654435761U;
	schedule_init(&a->sched.s, now_us(), interval, schedule_jitter(interval, dice), a->conf.max_skip, a->rec.skipped);
	arm(a);
}

void sched_op_begins(struct agent *a)
{
	load_sample_cancel(a->sched.sampler);
	a->sched.sampler = NULL;
	loop_timer_clear(&a->loop, &a->sched.timer);
	count_skipped(a, schedule_begun(&a->sched.s, now_us()), "the node was too busy");
}

void sched_op_ended(struct agent *a)
{
	schedule_finished(&a->sched.s, now_us(), a->op.kind == OP_PERIODIC && a->op.passes);
	arm(a);
}

void sched_stop(struct agent *a)
{
	load_sample_cancel(a->sched.sampler);
	a->sched.sampler = NULL;
	loop_timer_clear(&a->loop, &a->sched.timer);
}
