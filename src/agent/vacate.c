#include "agent/vacate.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/record_history.h"
#include "base/log.h"
#include "base/clock.h"

#define VACATE_RPC_TIMEOUT  30 /* s, for the requeue and for each question afterwards */
#define VACATE_DOUBT_TIME   10 /* s of asking whether a failed requeue has happened after all */
#define VACATE_WORD_TIMEOUT 30 /* s for the worker to end once it has the agent's word */

static void vacate_ask(void *arg);

/* Slurm has the job and its pod is dead; the worker, if it lived, has ended. */
static void vacate_finish_gone(struct vacate *v)
{
	struct op *op = &v->checkpoint->op;
	json_t *r = op->result && json_is_true(json_object_get(op->result, "ok")) ? json_incref(op->result)
										  : json_object();

	if (op_requeues(op->kind))
		job_log(v->job, "%s at epoch %u; the job waits in Slurm's queue",
			op->kind == OP_PREEMPT   ? "preempted"
			: op->kind == OP_REQUEUE ? "saved before its time limit"
						 : "saved in the time that Slurm left it",
			op->epoch);
	else
		job_log(v->job, "vacated at epoch %u%s; the job is held in Slurm's queue", op->epoch,
			op->kind == OP_LIMIT ? " before its time limit" : "");
	record_history_left(v->job, op_name(op->kind), op->epoch);
	json_object_set_new(r, "event", json_string("result"));
	json_object_set_new(r, "ok", json_true());
	json_object_set_new(r, "op", json_string("vacate"));
	json_object_set_new(r, "epoch", json_integer(op->epoch));
	request_result(op->request, r);
	v->left(v->arg, op->kind);
}

static void vacate_gone(struct vacate *v)
{
	struct op *op = &v->checkpoint->op;

	op->vacated = true;
	v->gone(v->arg);
	/* the worker first: it must not take criu's death with the pod for a failure */
	proc_send(&op->worker, "kill");
	if (v->checkpoint->pod->init)
		kill(v->checkpoint->pod->init, SIGKILL);
	/* a requeued job is to be continued like one whose node has failed */
	job_set_intent(v->job, op_requeues(op->kind) ? INTENT_RUNNING : INTENT_VACATED);
	if (proc_running(&op->worker))
		proc_set_timeout(&op->worker, VACATE_WORD_TIMEOUT);
	else
		vacate_finish_gone(v);
}

/* The job runs on; the worker, if it lived, has ended. */
static void vacate_finish_back(struct vacate *v)
{
	struct op *op = &v->checkpoint->op;
	char text[700], state[100];

	pod_watch_continue(v->checkpoint->pod, op->stopped, op->n_stopped);
	snprintf(text, sizeof(text), "the job could not be given back to Slurm: %s", v->why);
	snprintf(state, sizeof(state), "the job continues; epoch %u is saved", op->epoch);
	job_log(v->job, "%s; %s", text, state);
	record_history_write(v->job);
	request_refuse(op->request, "vacate", text, state);
	v->stayed(v->arg, text);
}

static void vacate_back(struct vacate *v)
{
	struct op *op = &v->checkpoint->op;

	job_set_intent(v->job, INTENT_RUNNING);
	proc_send(&op->worker, "resume");
	if (proc_running(&op->worker))
		proc_set_timeout(&op->worker, VACATE_WORD_TIMEOUT);
	else
		vacate_finish_back(v);
	v->resumed(v->arg);
}

static void vacate_on_state(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct vacate *v = arg;

	if (ok && json_is_true(json_object_get(answer, "pending"))) {
		vacate_gone(v);
	} else if (ok && !json_is_true(json_object_get(answer, "running"))) {
		snprintf(v->why, sizeof(v->why), "it was ended by Slurm meanwhile");
		vacate_back(v);
	} else if (now_us() < v->give_up) {
		loop_timer_set(v->job->loop, &v->retry, now_us() + 1000000, vacate_ask, v);
	} else {
		v->unresolved = true;
		vacate_back(v);
	}
}

static void vacate_ask(void *arg)
{
	struct vacate *v = arg;
	const struct job *j = v->job;

	rpc_start(j->loop, &v->requeue, j->libexec, VACATE_RPC_TIMEOUT, "get", j->task.job_id, NULL, vacate_on_state, v);
}

static void vacate_on_requeued(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct vacate *v = arg;

	if (ok) {
		vacate_gone(v);
		return;
	}
	snprintf(v->why, sizeof(v->why), "%s", error);
	v->give_up = now_us() + VACATE_DOUBT_TIME * INT64_C(1000000);
	vacate_ask(v);
}

void vacate_held(struct vacate *v)
{
	struct job *j = v->job;
	struct op *op = &v->checkpoint->op;
	struct err err;

	op->held = true;
	v->why[0] = '\0';
	proc_set_timeout(&op->worker, 0); /* now the worker waits for the agent */
	if (op->kind == OP_EVICT) {
		vacate_gone(v);
		return;
	}
	j->rec.intent = INTENT_VACATING;
	if (job_save(j, &err) < 0) {
		snprintf(v->why, sizeof(v->why), "the job's record cannot be written: %.400s", err.text);
		j->rec.intent = INTENT_RUNNING;
		vacate_back(v);
		return;
	}
	request_phase(op->request, "requeue");
	snprintf(op->phase, sizeof(op->phase), "requeue");
	rpc_start(j->loop, &v->requeue, j->libexec, VACATE_RPC_TIMEOUT,
		  op_requeues(op->kind) ? "requeue" : "requeue-hold", j->task.job_id, NULL, vacate_on_requeued, v);
}

void vacate_stop(struct vacate *v)
{
	rpc_forget(&v->requeue);
	loop_timer_clear(v->job->loop, &v->retry);
}

void vacate_worker_ended(struct vacate *v, bool ok)
{
	struct op *op = &v->checkpoint->op;

	if (ok)
		checkpoint_record_epoch(v->checkpoint, op->result);
	if (op->vacated)
		vacate_finish_gone(v);
	else if (rpc_running(&v->requeue) || v->retry.at)
		/* The worker died while Slurm was being asked, and the tree runs again, ahead of its epoch. If the
		 * requeue succeeds, the job is vacated all the same, as of this epoch: the pod is killed first, and
		 * the files are rolled back at the restore. */
		log_error("the checkpoint worker died while the job was being vacated");
	else
		vacate_finish_back(v);
}
