/* Slurm is about to end the job: a preemption with a grace time, or its time limit (with --checkpoint-at-limit). Its
 * state is saved while there is time, and the job gives its node back itself (policy/recovery.h: notice_decide()).
 *
 * Neither is told to a batch job: Slurm must be asked. For a preemption that is done only where the partition has a
 * GraceTime, four times within it; for the limit a few times, each halving the time that is left, since an
 * administrator may change it. */
#include "agent/agent.h"

#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/clock.h"

#define ASK_TIMEOUT 20 /* s */
#define POLL_MIN    1
#define POLL_MAX    10
#define LOOK_MIN    2
#define RETRY       30 /* s after an answer that did not come */
#define SECOND      INT64_C(1000000)

static void look(void *arg);

static void again(struct agent *a, int64_t s)
{
	if (s > 0)
		loop_timer_set(&a->loop, &a->notice.timer, now_us() + s * SECOND, look, a);
}

static int64_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static int64_t clamp(int64_t n, int64_t min, int64_t max)
{
	return n < min ? min : n > max ? max : n;
}

/* Seconds until the next look; 0 = none is needed. */
static int64_t next_look(const struct agent *a, const struct notice_input *in, int64_t grace)
{
	int64_t poll = grace > 0 ? clamp(grace / 4, POLL_MIN, POLL_MAX) : 0;
	int64_t half = clamp((in->left - in->lead) / 2, LOOK_MIN, INT32_MAX);

	if (!a->task.at_limit || in->served)
		return poll;
	return poll && poll < half ? poll : half;
}

static void on_outlook(void *arg, bool ok, const json_t *o, const char *error)
{
	struct agent *a = arg;
	struct notice_input in = { .at_limit = a->task.at_limit,
				   .lead = notice_lead(a->pub.status.total_us),
				   .served = a->notice.served };
	enum notice_action action;

	if (a->phase != PHASE_RUNNING)
		return;
	if (!ok) {
		log_debug("Slurm cannot be asked for the job's outlook: %s", error);
		again(a, a->notice.grace > 0 ? POLL_MAX : RETRY);
		return;
	}
	a->notice.grace = number(o, "grace");
	in.preempted = number(o, "preempt_time") > 0;
	in.left = number(o, "end_time") > 0 ? number(o, "end_time") - time(NULL) : INT32_MAX;
	if (!in.preempted && in.left > in.lead)
		a->notice.served = in.served = false; /* the limit was raised, or the preemption called off */
	action = notice_decide(&in);
	if (action == NOTICE_NONE) {
		again(a, next_look(a, &in, a->notice.grace));
	} else if (a->op.active) {
		op_hurry(a);
		again(a, POLL_MIN); /* a checkpoint is being made; then it is our turn */
	} else {
		a->notice.served = in.served = true;
		job_log(a, action == NOTICE_VACATE ? "the time limit is near: the job is vacated"
						   : "Slurm preempts the job: it is saved and goes back into the queue");
		op_start(a, action == NOTICE_VACATE ? OP_LIMIT : OP_PREEMPT, NULL);
		again(a, next_look(a, &in, a->notice.grace)); /* should it fail, a later notice is another one */
	}
}

static void look(void *arg)
{
	struct agent *a = arg;

	loop_timer_clear(&a->loop, &a->notice.timer);
	if (!rpc_running(&a->notice.rpc))
		rpc_start(&a->loop, &a->notice.rpc, a->libexec, ASK_TIMEOUT, "outlook", a->task.job_id, NULL,
			  on_outlook, a);
}

void notice_start(struct agent *a)
{
	/* behind the first publish: nothing competes with the start of the job */
	again(a, LOOK_MIN);
}

void notice_stop(struct agent *a)
{
	rpc_forget(&a->notice.rpc);
	loop_timer_clear(&a->loop, &a->notice.timer);
}
