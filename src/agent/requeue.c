#include "agent/requeue.h"

#include <stdio.h>

#include "base/log.h"
#include "base/clock.h"

#define REQUEUE_TIMEOUT     60 /* s */
#define REQUEUE_RETRY_FIRST 5
#define REQUEUE_RETRY_MAX   120

static void requeue_ask(void *arg);

static void requeue_later(struct requeue *r, const char *error)
{
	int64_t wait = REQUEUE_RETRY_FIRST << (r->tries < 5 ? r->tries : 5);

	if (!r->tries++)
		log_error("the job cannot be requeued yet: %s; trying again", error);
	loop_timer_set(r->job->loop, &r->retry,
		       now_us() + (wait < REQUEUE_RETRY_MAX ? wait : REQUEUE_RETRY_MAX) * 1000000, requeue_ask, r);
}

static void requeue_on_done(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct requeue *r = arg;

	if (!ok) {
		requeue_later(r, error);
		return;
	}
	if (r->mode == REQUEUE_HELD)
		job_log(r->job, "the job is held in Slurm's queue");
	else
		log_info("the job is in Slurm's queue again");
	r->done(r->arg);
}

static void requeue_send(struct requeue *r)
{
	const struct job *j = r->job;

	r->before(r->arg);
	rpc_start(j->loop, &r->rpc, j->libexec, REQUEUE_TIMEOUT,
		  r->mode == REQUEUE_HELD ? "requeue-hold" : "requeue-soon", j->task.job_id, NULL, requeue_on_done, r);
}

/* Slurm would requeue a cancelled job too, which nobody wants to have back. */
static void requeue_on_state(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct requeue *r = arg;
	const struct end_input in = job_end_input(r->job, ok, answer);

	switch (end_decide(&in)) {
	case END_UNKNOWN: requeue_later(r, error); break;
	case END_NONE: requeue_send(r); break;
	case END_OVER: r->over(r->arg); break;
	case END_START_OVER:
	case END_CONTINUE:
	case END_ELSEWHERE: r->done(r->arg); break;
	}
}

static void requeue_ask(void *arg)
{
	struct requeue *r = arg;
	const struct job *j = r->job;

	loop_timer_clear(j->loop, &r->retry);
	rpc_start(j->loop, &r->rpc, j->libexec, REQUEUE_TIMEOUT, "get", j->task.job_id, NULL, requeue_on_state, r);
}

void requeue_begin(struct requeue *r, enum requeue_mode mode)
{
	r->mode = mode;
	requeue_ask(r);
}

void requeue_ask_now(struct requeue *r)
{
	if (!rpc_running(&r->rpc))
		requeue_ask(r);
}

void requeue_stop(struct requeue *r)
{
	rpc_forget(&r->rpc);
	loop_timer_clear(r->job->loop, &r->retry);
}
