/* A job that must be restored and cannot be goes back into the queue, held, with the reason shown. It never starts over silently,
 * and it is never lost: until Slurm has taken it the agent stays, for an agent that ends is a job that has completed. */
#include "agent/agent.h"

#include <stdio.h>

#include "common/log.h"
#include "common/util.h"

#define REQUEUE_TIMEOUT 60 /* s */
#define RETRY_FIRST     5
#define RETRY_MAX       120

static void ask(void *arg);

static void again(struct agent *a, const char *error)
{
	int64_t wait = RETRY_FIRST << (a->hold.tries < 5 ? a->hold.tries : 5);

	if (!a->hold.tries++)
		log_error("the job cannot be requeued and held yet: %s; trying again", error);
	loop_timer_set(&a->loop, &a->hold.retry, now_us() + (wait < RETRY_MAX ? wait : RETRY_MAX) * 1000000, ask, a);
}

static void on_requeued(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;

	if (!ok) {
		again(a, error);
		return;
	}
	job_log(a, "the job is held in Slurm's queue");
	end_leave(a);
}

static void requeue(struct agent *a)
{
	publish_now(a);
	rpc_start(&a->loop, &a->hold.rpc, a->libexec, REQUEUE_TIMEOUT, "requeue-hold", a->task.job_id, NULL, on_requeued, a);
}

/* Slurm would requeue a cancelled job too, and nobody wants that one back. */
static void on_state(void *arg, bool ok, const json_t *job, const char *error)
{
	struct agent *a = arg;

	if (!ok)
		again(a, error);
	else if (json_is_true(json_object_get(job, "pending")))
		end_leave(a);
	else if (json_is_true(json_object_get(job, "finished")))
		end_given_up(a);
	else
		requeue(a);
}

static void ask(void *arg)
{
	struct agent *a = arg;

	loop_timer_clear(&a->loop, &a->hold.retry);
	rpc_start(&a->loop, &a->hold.rpc, a->libexec, REQUEUE_TIMEOUT, "get", a->task.job_id, NULL, on_state, a);
}

void hold_begin(struct agent *a, const char *why)
{
	a->phase = PHASE_HOLDING;
	job_log(a, "the job is not started: %s", why);
	gate_answer(a, "exit");
	pod_release(a);
	snprintf(a->pub.status.state, sizeof(a->pub.status.state), "held");
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "%.250s", why);
	ask(a);
}

void hold_look(struct agent *a)
{
	if (!rpc_running(&a->hold.rpc))
		ask(a);
}

void hold_stop(struct agent *a)
{
	rpc_forget(&a->hold.rpc);
	loop_timer_clear(&a->loop, &a->hold.retry);
}
