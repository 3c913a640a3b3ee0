/* The job goes back into Slurm's queue: held, because it must be restored and cannot be (RETURN_HOLD), or to be
 * continued as soon as Slurm likes, because it was stopped here (RETURN_REQUEUE). It never starts over silently, and it
 * is never lost: until Slurm has taken it, or is known to have it in another place, the agent stays, for an agent that
 * ends is a job that has completed. */
#include "agent/agent.h"

#include <stdio.h>

#include "base/log.h"
#include "base/clock.h"

#define REQUEUE_TIMEOUT 60 /* s */
#define RETRY_FIRST     5
#define RETRY_MAX       120

static void ask(void *arg);

static void again(struct agent *a, const char *error)
{
	int64_t wait = RETRY_FIRST << (a->ret.tries < 5 ? a->ret.tries : 5);

	if (!a->ret.tries++)
		log_error("the job cannot be requeued yet: %s; trying again", error);
	loop_timer_set(&a->loop, &a->ret.retry, now_us() + (wait < RETRY_MAX ? wait : RETRY_MAX) * 1000000, ask, a);
}

static void on_requeued(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;

	if (!ok) {
		again(a, error);
		return;
	}
	if (a->ret.mode == RETURN_HOLD)
		job_log(a, "the job is held in Slurm's queue");
	else
		log_info("the job is in Slurm's queue again");
	end_leave(a);
}

static void requeue(struct agent *a)
{
	publish_now(a);
	rpc_start(&a->loop, &a->ret.rpc, a->libexec, REQUEUE_TIMEOUT,
		  a->ret.mode == RETURN_HOLD ? "requeue-hold" : "requeue-soon", a->task.job_id, NULL, on_requeued, a);
}

/* Slurm would requeue a cancelled job too, and nobody wants that one back. */
static void on_state(void *arg, bool ok, const json_t *job, const char *error)
{
	struct agent *a = arg;
	const struct end_input in = end_input_of(a, ok, job);

	switch (end_decide(&in)) {
	case END_UNKNOWN: again(a, error); break;
	case END_NONE: requeue(a); break;
	case END_OVER: end_given_up(a); break;
	case END_START_OVER:
	case END_CONTINUE:
	case END_ELSEWHERE: end_leave(a); break;
	}
}

static void ask(void *arg)
{
	struct agent *a = arg;

	loop_timer_clear(&a->loop, &a->ret.retry);
	rpc_start(&a->loop, &a->ret.rpc, a->libexec, REQUEUE_TIMEOUT, "get", a->task.job_id, NULL, on_state, a);
}

void return_begin(struct agent *a, enum return_mode mode, const char *why)
{
	struct status *s = &a->pub.status;

	a->phase = PHASE_HOLDING;
	a->ret.mode = mode;
	if (mode == RETURN_HOLD)
		job_log(a, "the job is not started: %s", why);
	gate_answer(a, "exit");
	pod_release(a);
	snprintf(s->state, sizeof(s->state), "%s", mode == RETURN_HOLD ? "held" : "restoring");
	snprintf(s->error, sizeof(s->error), "%.250s", why);
	ask(a);
}

void return_look(struct agent *a)
{
	if (!rpc_running(&a->ret.rpc))
		ask(a);
}

void return_stop(struct agent *a)
{
	rpc_forget(&a->ret.rpc);
	loop_timer_clear(&a->loop, &a->ret.retry);
}
