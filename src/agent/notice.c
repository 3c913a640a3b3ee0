#include "agent/notice.h"

#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/clock.h"

#define NOTICE_RPC_TIMEOUT  20 /* s */
#define NOTICE_POLL_MIN     1
#define NOTICE_POLL_MAX     10
#define NOTICE_INTERVAL_MIN 2
#define NOTICE_RETRY        30 /* s after an answer that did not come */
#define SECOND              INT64_C(1000000)

static void notice_ask(void *arg);

static void notice_ask_in(struct notice *n, int64_t s)
{
	if (s > 0)
		loop_timer_set(n->job->loop, &n->timer, now_us() + s * SECOND, notice_ask, n);
}

static int64_t notice_number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static int64_t notice_clamp(int64_t n, int64_t min, int64_t max)
{
	return n < min ? min : n > max ? max : n;
}

/* Seconds until Slurm is asked again; 0 = it need not be. */
static int64_t notice_pause(const struct notice *n, const struct notice_input *in)
{
	int64_t poll = n->grace > 0 ? notice_clamp(n->grace / 4, NOTICE_POLL_MIN, NOTICE_POLL_MAX) : 0;
	int64_t left = in->left < in->left_total ? in->left : in->left_total;
	int64_t half = notice_clamp((left - in->lead) / 2, NOTICE_INTERVAL_MIN, INT32_MAX);

	if (n->job->task.at_limit == AT_LIMIT_NONE || in->served)
		return poll;
	return poll && poll < half ? poll : half;
}

const char *notice_text(enum notice_action action)
{
	switch (action) {
	case NOTICE_NONE: break;
	case NOTICE_SAVE_AND_REQUEUE: return "Slurm preempts the job: it is saved and goes back into the queue";
	case NOTICE_VACATE: return "the time limit is near: the job is vacated";
	case NOTICE_CONTINUE: return "the time limit is near: the job is saved and goes back into the queue";
	case NOTICE_VACATE_USED_UP:
		return "the total running time (--checkpoint-at-limit=continue:TIME) is used up: the job is vacated";
	case NOTICE_VACATE_NO_PROGRESS:
		return "the time limit is near although the job has hardly run since it was started here, so it would never end: it is "
		       "vacated, and needs a longer time limit";
	}
	return "";
}

static void notice_act(struct notice *n, struct notice_input *in, enum notice_action action)
{
	n->served = in->served = true;
	n->action = action;
	job_log(n->job, "%s", notice_text(action));
	n->act(n->arg, action);
	notice_ask_in(n, notice_pause(n, in)); /* should it fail, a later preemption or limit is served again */
}

static void notice_on_outlook(void *arg, bool ok, const json_t *o, const char *error)
{
	struct notice *n = arg;
	struct notice_input in = { .at_limit = n->job->task.at_limit,
				   .left_total = n->job->task.total ? n->job->task.total - job_used(n->job) : INT64_MAX,
				   .ran = job_ran(n->job),
				   .lead = notice_lead(n->checkpoint_us(n->arg)) + n->hook_seconds(n->arg),
				   .served = n->served };
	enum notice_action action;

	if (!ok) {
		log_debug("Slurm cannot be asked for the job's outlook: %s", error);
		notice_ask_in(n, n->grace > 0 ? NOTICE_POLL_MAX : NOTICE_RETRY);
		return;
	}
	n->grace = notice_number(o, "grace");
	in.preempted = notice_number(o, "preempt_time") > 0;
	in.left = notice_number(o, "end_time") > 0 ? notice_number(o, "end_time") - time(NULL) : INT32_MAX;
	if (!in.preempted && in.left > in.lead && in.left_total > in.lead)
		n->served = in.served = false; /* the limit was raised, or the preemption was called off */
	action = notice_decide(&in);
	if (action == NOTICE_NONE)
		notice_ask_in(n, notice_pause(n, &in));
	else if (n->busy(n->arg))
		notice_ask_in(n, NOTICE_POLL_MIN); /* acts when the operation has ended */
	else
		notice_act(n, &in, action);
}

static void notice_ask(void *arg)
{
	struct notice *n = arg;
	const struct job *j = n->job;

	loop_timer_clear(j->loop, &n->timer);
	if (!rpc_running(&n->rpc))
		rpc_start(j->loop, &n->rpc, j->libexec, NOTICE_RPC_TIMEOUT, "outlook", j->task.job_id, NULL,
			  notice_on_outlook, n);
}

void notice_start(struct notice *n)
{
	/* after the first publish, so that nothing competes with the start of the job */
	notice_ask_in(n, NOTICE_INTERVAL_MIN);
}

void notice_stop(struct notice *n)
{
	rpc_forget(&n->rpc);
	loop_timer_clear(n->job->loop, &n->timer);
}
