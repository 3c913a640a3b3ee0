/* The second half of a vacate: the epoch is durable, the tree is frozen, and the job must get from the node into the
 * queue without being lost on the way. Until Slurm has it, the worker can still be told to let the job run on; from
 * then on it can not.
 *
 *   held -> intent vacating -> requeue-hold -> done:   kill the pod before Slurm's SIGTERM can reach anything that runs
 *                                           -> failed: has it happened after all? -> yes: as done
 *                                                                                 -> no:  resume, the job continues
 */
#include "agent/agent.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/clock.h"

#define REQUEUE_TIMEOUT 30 /* s, for the requeue and for each look afterwards */
#define DOUBT_TIME      10 /* s of looking whether a failed requeue has happened after all */
#define WORD_TIMEOUT    30 /* s for the worker to end once it has the word */

static void look(void *arg);

/* The job is Slurm's again and its pod is dead; the worker, if it lived, has ended. */
static void finish_gone(struct agent *a)
{
	struct op *op = &a->op;
	json_t *r = op->result && json_is_true(json_object_get(op->result, "ok")) ? json_incref(op->result)
										  : json_object();

	if (op->kind == OP_PREEMPT)
		job_log(a, "preempted at epoch %u; the job waits in Slurm's queue", op->epoch);
	else
		job_log(a, "vacated at epoch %u%s; the job is held in Slurm's queue", op->epoch,
			op->kind == OP_LIMIT ? " before its time limit" : "");
	json_object_set_new(r, "event", json_string("result"));
	json_object_set_new(r, "ok", json_true());
	json_object_set_new(r, "op", json_string("vacate"));
	json_object_set_new(r, "epoch", json_integer(op->epoch));
	conn_result(op->conn, r);
	a->pub.status.error[0] = '\0';
	requests_stop(a);
	publish_state(a, op->kind == OP_PREEMPT ? "preempted" : "vacated");
	job_prune(a);
	op_finish(a);
	end_leave(a);
}

static void gone(struct agent *a)
{
	struct op *op = &a->op;

	op->vacated = true;
	a->phase = PHASE_LEAVING;
	sched_stop(a);
	notice_stop(a);
	/* the worker first: it must not take criu's death with the pod for a failure */
	proc_send(&op->worker, "kill");
	if (a->pod.init)
		kill(a->pod.init, SIGKILL);
	/* a preempted job is to be continued as one whose node has failed */
	job_set_intent(a, op->kind == OP_PREEMPT ? INTENT_RUNNING : INTENT_VACATED);
	if (proc_running(&op->worker))
		proc_set_timeout(&op->worker, WORD_TIMEOUT);
	else
		finish_gone(a);
}

/* The job runs on; the worker, if it lived, has ended. */
static void finish_back(struct agent *a)
{
	struct op *op = &a->op;
	char text[700], state[100];

	pod_unstop(a, op->stopped, op->n_stopped);
	snprintf(text, sizeof(text), "the job could not be given back to Slurm: %s", op->why);
	snprintf(state, sizeof(state), "the job continues; epoch %u is saved", op->epoch);
	job_log(a, "%s; %s", text, state);
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "%.250s", text);
	conn_refuse(op->conn, "vacate", text, state);
	publish_now(a);
	job_prune(a);
	op_finish(a);
}

static void back(struct agent *a)
{
	struct op *op = &a->op;

	job_set_intent(a, INTENT_RUNNING);
	proc_send(&op->worker, "resume");
	if (proc_running(&op->worker))
		proc_set_timeout(&op->worker, WORD_TIMEOUT);
	else
		finish_back(a);
	if (a->end.term) /* somebody ended the job meanwhile */
		end_signal(a, SIGTERM);
}

static void on_look(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;

	if (ok && json_is_true(json_object_get(answer, "pending"))) {
		gone(a);
	} else if (ok && !json_is_true(json_object_get(answer, "running"))) {
		snprintf(a->op.why, sizeof(a->op.why), "it was ended by Slurm meanwhile");
		back(a);
	} else if (now_us() < a->op.give_up) {
		loop_timer_set(&a->loop, &a->op.retry, now_us() + 1000000, look, a);
	} else {
		/* If slurmctld has the requeue in its queue of work after all, it will kill the job: end.c must not
		 * take that for somebody's wish to start over. */
		a->end.unresolved = true;
		back(a);
	}
}

static void look(void *arg)
{
	struct agent *a = arg;

	rpc_start(&a->loop, &a->op.requeue, a->libexec, REQUEUE_TIMEOUT, "get", a->task.job_id, NULL, on_look, a);
}

static void on_requeued(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;

	if (ok) {
		gone(a);
		return;
	}
	snprintf(a->op.why, sizeof(a->op.why), "%s", error);
	a->op.give_up = now_us() + DOUBT_TIME * INT64_C(1000000);
	look(a);
}

void vacate_held(struct agent *a)
{
	struct op *op = &a->op;
	struct err err;

	op->held = true;
	proc_set_timeout(&op->worker, 0); /* it waits for us now, not we for it */
	a->rec.intent = INTENT_VACATING;
	if (job_save(a, &err) < 0) {
		snprintf(op->why, sizeof(op->why), "the job's record cannot be written: %.400s", err.text);
		a->rec.intent = INTENT_RUNNING;
		back(a);
		return;
	}
	conn_phase(op->conn, "requeue");
	snprintf(op->phase, sizeof(op->phase), "requeue");
	rpc_start(&a->loop, &op->requeue, a->libexec, REQUEUE_TIMEOUT,
		  op->kind == OP_PREEMPT ? "requeue" : "requeue-hold", a->task.job_id, NULL, on_requeued, a);
}

void vacate_stop(struct agent *a)
{
	rpc_forget(&a->op.requeue);
	loop_timer_clear(&a->loop, &a->op.retry);
}

/* The worker of a held vacate has ended, with the word or without it. */
void vacate_worker_end(struct agent *a, bool ok)
{
	struct op *op = &a->op;

	if (ok)
		op_record_epoch(a, op->result);
	if (op->vacated)
		finish_gone(a);
	else if (rpc_running(&op->requeue) || op->retry.at)
		/* It died while Slurm was being asked: the tree runs again, ahead of its epoch. If the requeue
		 * succeeds, the job is vacated all the same, as of this epoch: the pod dies first thing, and the files
		 * are rolled back at restore. */
		log_error("the checkpoint worker died while the job was being vacated");
	else
		finish_back(a);
}
