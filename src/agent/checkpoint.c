#include "agent/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/record_history.h"
#include "agent/worker_event.h"
#include "agent/worker_request.h"
#include "base/log.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "policy/obstacle.h"
#include "base/json.h"

/* s behind CheckpointTimeout, which the worker keeps itself; one that does not is killed then. It does not count what
 * it waits for others. */
#define CHECKPOINT_WORKER_MARGIN 30

static void checkpoint_next_queued(struct checkpoint *c);

const char *op_name(enum op_kind kind)
{
	static const char *const names[] = {
		[OP_PERIODIC] = "periodic", [OP_CREATE] = "create", [OP_VACATE] = "vacate", [OP_LIMIT] = "limit",
		[OP_PREEMPT] = "preempt",   [OP_REQUEUE] = "limit", [OP_EVICT] = "requeue"
	};

	return names[kind];
}

static char *checkpoint_request_text(const struct checkpoint *c)
{
	const struct op *op = &c->op;
	json_t *o = worker_request_pod(c->job, c->pod, c->requests->port, op->epoch);
	char gap[400];

	if (*write_list_watch_gap(c->write_list, gap, sizeof(gap)))
		json_object_set_new(o, "gap", json_text(gap));
	json_object_set_new(o, "vacate", json_boolean(op_leaves(op->kind)));
	json_object_set_new(o, "reason", json_string(op_name(op->kind)));
	json_object_set_new(o, "written", json_boolean(c->write_list->list != NULL));
	json_object_set_new(o, "run", json_integer(c->job->rec.run));
	if (c->mailbox.in >= 0)
		json_object_set_new(o, "mailbox", mailbox_describe(&c->mailbox, getpid()));
	return worker_request_text(o);
}

static int64_t checkpoint_result_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

void checkpoint_record_epoch(struct checkpoint *c, const json_t *o)
{
	struct epoch_summary e = { .number = c->op.epoch, .run = c->job->rec.run };
	struct err err;

	epoch_summary_from_result(&e, o);
	snprintf(e.reason, sizeof(e.reason), "%s", op_name(c->op.kind));
	job_add_epoch(c->job, &e);
	if (job_save(c->job, &err) < 0) {
		/* the epoch is complete on disk, but the next start would not use it */
		log_error("epoch %u is complete but cannot be recorded: %s", e.number, err.text);
		publish_error(c->publish, err.text);
	}
	job_quota_end(c->job);
}

/* frozen_us of a vacate is the time until the epoch was durable, since its processes never run again. */
static void checkpoint_log_epoch(struct checkpoint *c, const json_t *o)
{
	char size[16], frozen[24], total[24];
	int64_t us = checkpoint_result_int(o, "frozen_us");

	const char *memory = json_string_value(json_object_get(o, "memory")),
		   *why = json_string_value(json_object_get(o, "memory_why"));

	job_log(c->job, "epoch %u complete (%s): %s, %s%s%stotal %s", c->op.epoch, op_name(c->op.kind),
		format_size((uint64_t)checkpoint_result_int(o, "bytes"), size, sizeof(size)), us > 0 ? "frozen " : "",
		us > 0 ? format_duration(us, frozen, sizeof(frozen)) : "", us > 0 ? ", " : "",
		format_duration(checkpoint_result_int(o, "total_us"), total, sizeof(total)));
	if (memory)
		job_log(c->job, "epoch %u: memory %s (%s)", c->op.epoch, memory, why ? why : "");
}

void checkpoint_hurry(struct checkpoint *c)
{
	struct op *op = &c->op;

	if (op->active)
		hook_hurry(c->hook);
	if (!op->active || op->hurried || (strcmp(op->phase, "pre-dump") != 0 && strcmp(op->phase, "turn") != 0) ||
	    proc_send(&op->worker, "hurry") < 0)
		return;
	op->hurried = true;
	job_log(c->job, "%s epoch %u is cut short: the job is to leave its node",
		strcmp(op->phase, "turn") ? "the pre-dump of" : "the wait for others (CheckpointMaxWriters) before",
		op->epoch);
}

static bool checkpoint_is_to_leave(const struct checkpoint *c)
{
	for (unsigned i = 0; i < c->n_queue; i++)
		if (op_leaves(c->queue[i].kind))
			return true;
	return false;
}

static void checkpoint_on_event(void *arg, char *line)
{
	struct checkpoint *c = arg;
	struct op *op = &c->op;
	struct worker_event e;

	worker_event_parse(line, &e);
	if (e.kind == WORKER_EVENT_PHASE) {
		snprintf(op->phase, sizeof(op->phase), "%s", e.name);
		request_phase(op->request, e.name);
		if (strcmp(e.name, "frozen") == 0 && write_list_watch_frozen(c->write_list))
			proc_send(&op->worker, "go");
		if (checkpoint_is_to_leave(c))
			checkpoint_hurry(c);
	} else if (e.kind == WORKER_EVENT_HELD && op_leaves(op->kind) && !op->held) {
		checkpoint_record_epoch(c, e.o);
		checkpoint_log_epoch(c, e.o);
		record_history_epoch(c->job, op_name(op->kind), true, op->epoch, e.o);
		c->held(c->arg);
	} else if (e.kind == WORKER_EVENT_RESULT) {
		json_decref(op->result);
		op->result = json_incref(e.o);
	} else {
		log_warn("the checkpoint worker has sent an unknown event");
	}
	worker_event_free(&e);
}

static void checkpoint_explain_death(const struct op *op, int status, bool timed_out, unsigned limit, char *text,
				     size_t len)
{
	const char *error = json_string_value(json_object_get(op->result, "error"));

	if (error)
		snprintf(text, len, "%s", error);
	else if (timed_out)
		snprintf(text, len, "it took longer than CheckpointTimeout (%u s) in phase \"%s\" and was stopped",
			 limit, op->phase);
	else if (WIFSIGNALED(status))
		snprintf(text, len, "the checkpoint worker was killed by signal %d in phase \"%s\"", WTERMSIG(status),
			 op->phase);
	else if (WEXITSTATUS(status) == 127)
		snprintf(text, len, "fsched-worker cannot be run: is fsched installed completely on this node?");
	else
		snprintf(text, len, "the checkpoint worker ended with status %d in phase \"%s\" and gave no reason",
			 WEXITSTATUS(status), op->phase);
}

#define CHECKPOINT_WARNED_MAX 100

/* A warning that is the same in every epoch is logged once. */
static bool checkpoint_first_time(json_t *told, const json_t *w)
{
	const json_t *t;
	size_t i;

	json_array_foreach(told, i, t)
		if (json_equal(t, w))
			return false;
	if (json_array_size(told) < CHECKPOINT_WARNED_MAX)
		json_array_append_new(told, json_copy((json_t *)(uintptr_t)w));
	return true;
}

static void checkpoint_report_warnings(struct checkpoint *c, const json_t *result)
{
	const json_t *w;
	size_t i;

	if (!c->warned)
		c->warned = json_array();
	json_array_foreach(json_object_get(result, "warnings"), i, w)
		if (json_is_string(w) && checkpoint_first_time(c->warned, w))
			job_log(c->job, "epoch %u: warning: %s", c->op.epoch, json_string_value(w));
}

#define CHECKPOINT_RESUME_US 2000000

/* Slurm continues a suspended job process by process. If criu seizes one that is still stopped, and the SIGCONT comes
 * before criu detaches from it, then the process is stopped again and the signal is lost. */
static void checkpoint_continue_resumed(struct checkpoint *c)
{
	if (!c->op.vacated && c->pod->init && c->job->continued_at &&
	    c->job->continued_at > c->op.began_us - CHECKPOINT_RESUME_US)
		pod_watch_continue(c->pod, NULL, 0);
}

/* What an attempt has left. */
static void checkpoint_forget(struct op *op)
{
	json_decref(op->result);
	free(op->stopped);
	op->result = NULL;
	op->stopped = NULL;
	op->n_stopped = 0;
}

void checkpoint_finish(struct checkpoint *c)
{
	struct op *op = &c->op;

	loop_timer_clear(c->job->loop, &op->retry);
	checkpoint_continue_resumed(c);
	checkpoint_forget(op);
	op->request = NULL;
	op->active = op->held = false;
	sched_op_ended(c->sched, op->kind == OP_PERIODIC && op->passes);
	checkpoint_next_queued(c);
}

static void checkpoint_succeeded(struct checkpoint *c)
{
	struct op *op = &c->op;
	const json_t *r = op->result;

	tell_user_protected(c->tell_user);
	c->last_failure[0] = '\0';
	checkpoint_record_epoch(c, r);
	checkpoint_log_epoch(c, r);
	record_history_epoch(c->job, op_name(op->kind), false, op->epoch, r);
	record_history_write(c->job);
	checkpoint_report_warnings(c, r);
	job_prune(c->job);
	prove_epochs_made(c->prove, op->epoch);
	snprintf(c->publish->status.error, sizeof(c->publish->status.error), "%s", c->requests->error);
	json_object_set_new(op->result, "op", json_string(op_name(op->kind)));
	request_result(op->request, json_incref(op->result));
}

/* Refused because of who asked, or from where: that is no error of the job, and must not hide one in its status. */
static bool checkpoint_askers_fault(const struct op *op)
{
	return (op->kind == OP_CREATE || op->kind == OP_VACATE) && json_is_true(json_object_get(op->result, "asker"));
}

/* A failure that repeats the last one is not logged again; the job's status counts both. */
static void checkpoint_count_failure(struct checkpoint *c, const char *text, const char *why)
{
	struct status *s = &c->publish->status;

	if (!s->failed++)
		s->failed_since = time(NULL);
	c->op.passes = obstacle_retry_checkpoint(why);
	if (strcmp(text, c->last_failure) != 0)
		job_log(c->job, "%s; the job runs on%s", text, c->op.passes ? ", and it is tried again soon" : "");
	snprintf(c->last_failure, sizeof(c->last_failure), "%s", text);
}

/* After a failed attempt the epoch and the processes are as if there had been none. */
static void checkpoint_undo(struct checkpoint *c)
{
	const struct op *op = &c->op;

	if (c->job->store_ok && op->epoch) {
		store_abort_epoch(&c->job->store, op->epoch);
		job_quota_end(c->job);
	}
	pod_watch_continue(c->pod, op->stopped, op->n_stopped);
}

static void checkpoint_failed(struct checkpoint *c, const char *why)
{
	struct op *op = &c->op;
	const bool refused = json_is_true(json_object_get(op->result, "refused"));
	char text[700];

	checkpoint_undo(c);
	checkpoint_report_warnings(c, op->result);
	snprintf(text, sizeof(text), "checkpoint (%s) %s: %.600s", op_name(op->kind), refused ? "not made" : "failed",
		 why);
	record_history_failed(c->job, op_name(op->kind), op->epoch, refused, why);
	if (op->kind == OP_PERIODIC)
		checkpoint_count_failure(c, text, why);
	else
		job_log(c->job, "%s; the job runs on", text);
	request_refuse(op->request, op_name(op->kind), why,
		       op_leaves(op->kind) ? "the job continues and was not vacated" : "the job continues");
	if (checkpoint_askers_fault(op))
		return;
	/* The user is told when the job itself prevents checkpoints (refused). What the node cannot do at the moment is
	 * for its administrator. */
	if (op->kind == OP_PERIODIC && refused)
		tell_user_unprotected(c->tell_user, why);
	snprintf(c->publish->status.error, sizeof(c->publish->status.error), "%.250s", text);
	publish_now(c->publish);
}

/* ---- another attempt ---- */

#define RETRY_FIRST (INT64_C(500) * 1000) /* us, doubled each time */
#define RETRY_FOR   (INT64_C(15) * 1000000)

static void checkpoint_begin_attempt(struct checkpoint *c);

static void checkpoint_again(void *arg)
{
	struct checkpoint *c = arg;

	loop_timer_clear(c->job->loop, &c->op.retry);
	checkpoint_begin_attempt(c);
}

/* Somebody waits for this checkpoint, or Slurm is about to end the job: what passes by itself is waited for here.
 * Periodic ones are tried again by their schedule. */
static bool checkpoint_tries_again(struct checkpoint *c, const char *why)
{
	struct op *op = &c->op;
	const int64_t at = now_us() + (RETRY_FIRST << op->tries);

	if (op->kind == OP_PERIODIC || !obstacle_retry_checkpoint(why) || at > op->began_us + RETRY_FOR)
		return false;
	if (!op->tries++)
		job_log(c->job, "checkpoint (%s) not made yet: %.600s; it is tried again for %lld s", op_name(op->kind),
			why, (long long)(RETRY_FOR / 1000000));
	checkpoint_undo(c);
	checkpoint_forget(op);
	snprintf(op->phase, sizeof(op->phase), "retry");
	request_phase(op->request, op->phase);
	loop_timer_set(c->job->loop, &op->retry, at, checkpoint_again, c);
	return true;
}

static void checkpoint_room_made(void *arg)
{
	checkpoint_begin_attempt(arg);
}

/* Once for each operation. */
static bool checkpoint_makes_room(struct checkpoint *c)
{
	struct op *op = &c->op;
	const int64_t over = checkpoint_result_int(op->result, "over");

	if (over <= 0 || !c->job->conf.quota_prune || op->made_room)
		return false;
	c->make_room.done = checkpoint_room_made;
	c->make_room.arg = c;
	if (!make_room_begin(&c->make_room, (uint64_t)over))
		return false;
	checkpoint_undo(c);
	op->made_room = true;
	checkpoint_forget(op);
	snprintf(op->phase, sizeof(op->phase), "make room");
	request_phase(op->request, op->phase);
	return true;
}

static void checkpoint_on_worker_end(void *arg, int status)
{
	struct checkpoint *c = arg;
	struct op *op = &c->op;
	bool ok = json_is_true(json_object_get(op->result, "ok"));

	if (op->held) {
		c->held_worker_ended(c->arg, ok);
		return;
	}
	if (!ok) {
		/* criu dies with the pod. If the script has just ended, then the job ends, and no checkpoint has
		 * failed. */
		pod_watch_listen(c->pod);
		if (!op->active)
			return;
	}
	if (ok) {
		checkpoint_succeeded(c);
		publish_now(c->publish);
	} else {
		char why[600];

		if (*c->lost)
			snprintf(why, sizeof(why), "%s", c->lost);
		else
			checkpoint_explain_death(op, status, op->worker.timed_out, c->job->conf.timeout, why,
						 sizeof(why));
		if (checkpoint_makes_room(c) || checkpoint_tries_again(c, why))
			return;
		checkpoint_failed(c, why);
	}
	checkpoint_finish(c);
}

int checkpoint_prepare(struct checkpoint *c, struct err *err)
{
	if (*c->lost)
		return err_set(err, 0, "%s", c->lost);
	if (!c->job->conf.criu_enabled)
		return err_set(err, 0,
			       "checkpoints are switched off on this node: CheckpointType is not checkpoint/criu");
	if (job_open_store(c->job, err) < 0)
		return -1;
	if (c->job->rec.run == 0) {
		/* the directory was out of reach when the job started */
		c->job->rec.run = 1;
		snprintf(c->job->rec.host, sizeof(c->job->rec.host), "%s", c->job->task.node);
		c->job->rec.restart_count = c->job->task.restart_count;
		if (job_save(c->job, err) < 0)
			return -1;
		write_list_watch_start(c->write_list, c->pod->init, c->pod->ctl.fd, true);
	}
	if (job_save_copies(c->job, err) < 0)
		return err_wrap(err, "the job's script cannot be saved");
	return 0;
}

/* Starts a worker for the operation. */
static void checkpoint_begin_attempt(struct checkpoint *c)
{
	struct op *op = &c->op;
	cleanup_free char *path = xasprintf("%s/fsched-worker", c->job->libexec), *request = NULL;
	char arg1[] = "checkpoint";
	char *argv[] = { path, arg1, NULL };
	struct proc_spec s = {
		.argv = argv, .keep_fd = -1, .on_line = checkpoint_on_event, .on_end = checkpoint_on_worker_end, .arg = c
	};
	struct err err;

	if (checkpoint_prepare(c, &err) == 0 && (op->epoch = store_next_epoch(&c->job->store, &c->job->rec, &err))) {
		op->n_stopped = pod_watch_stopped(c->pod, &op->stopped);
		write_list_watch_prepare(c->write_list);
		request = checkpoint_request_text(c);
		s.request = request;
		s.timeout_s = (int)conf_checkpoint_seconds(&c->job->conf) + CHECKPOINT_WORKER_MARGIN +
			      (c->job->conf.max_writers ? (int)c->job->conf.writer_wait : 0);
		if (proc_start(c->job->loop, &op->worker, &s, &err) == 0)
			return;
	}
	checkpoint_failed(c, err.text);
	checkpoint_finish(c);
}

static void checkpoint_after_hook(void *arg)
{
	struct checkpoint *c = arg;

	c->op.began_us = now_us();
	checkpoint_begin_attempt(c);
}

/* Slurm's clock is ticking where it has begun to end the job. */
static bool checkpoint_waits_for_hook(const struct checkpoint *c)
{
	return hook_has_before(c->hook) && c->op.kind != OP_PREEMPT && c->op.kind != OP_EVICT && !*c->lost;
}

void checkpoint_start(struct checkpoint *c, enum op_kind kind, struct request *r)
{
	struct op *op = &c->op;
	struct err err;
	unsigned next;

	memset(op, 0, sizeof(*op));
	op->active = true;
	op->kind = kind;
	op->request = r;
	op->began = time(NULL);
	op->began_us = now_us();
	snprintf(op->phase, sizeof(op->phase), "start");
	sched_op_begins(c->sched);
	if (op_leaves(kind))
		prove_epochs_stop(c->prove);
	if (checkpoint_waits_for_hook(c) && checkpoint_prepare(c, &err) == 0 &&
	    (next = store_next_epoch(&c->job->store, &c->job->rec, &err))) {
		snprintf(op->phase, sizeof(op->phase), "before");
		request_phase(r, op->phase);
		hook_before(c->hook, next, checkpoint_after_hook, c);
		return;
	}
	checkpoint_begin_attempt(c);
}

/* True if another request that waits does all that this one asks for: its epoch is made later than both requests. */
static bool checkpoint_covered(const struct checkpoint *c, unsigned index)
{
	for (unsigned i = 0; i < c->n_queue; i++)
		if (i != index && c->queue[i].kind >= c->queue[index].kind)
			return true;
	return false;
}

/* Requests that nobody waits for are carried out once, or else clients that come and go would fill the queue. */
static void checkpoint_merge_queue(struct checkpoint *c)
{
	for (unsigned i = 0; i < c->n_queue;) {
		struct checkpoint_queued *q = &c->queue[i];

		if (q->request || !checkpoint_covered(c, i)) {
			i++;
			continue;
		}
		log_info("a %s that waits with nobody waiting for it is left out: another request does the same",
			 op_name(q->kind));
		memmove(q, q + 1, (--c->n_queue - i) * sizeof(*q));
	}
}

void checkpoint_request(struct checkpoint *c, enum op_kind kind, struct request *r)
{
	if (!c->job_runs(c->arg)) {
		request_refuse(r, op_name(kind), "the job does not run at the moment", "nothing was done");
	} else if (!c->op.active) {
		checkpoint_start(c, kind, r);
	} else if (c->n_queue == CHECKPOINT_QUEUE_MAX) {
		request_refuse(r, op_name(kind), "too many requests for this job are waiting already",
			       "nothing was done");
	} else {
		c->queue[c->n_queue++] = (struct checkpoint_queued){ kind, r };
		checkpoint_merge_queue(c);
		if (op_leaves(kind))
			checkpoint_hurry(c);
		request_phase(r, "queued");
	}
}

bool checkpoint_has(const struct checkpoint *c, enum op_kind kind)
{
	bool has = c->op.active && c->op.kind == kind;

	for (unsigned i = 0; i < c->n_queue; i++)
		has |= c->queue[i].kind == kind;
	return has;
}

static void checkpoint_not_done(struct checkpoint *c, const struct checkpoint_queued *q, const char *why)
{
	if (!q->request)
		job_log(c->job, "a %s that was asked for is not made: %s", op_name(q->kind), why);
	request_refuse(q->request, op_name(q->kind), why, "nothing was done");
}

static void checkpoint_next_queued(struct checkpoint *c)
{
	while (c->n_queue && !c->op.active) {
		struct checkpoint_queued q = c->queue[0];

		memmove(&c->queue[0], &c->queue[1], --c->n_queue * sizeof(q));
		if (c->job_runs(c->arg))
			checkpoint_start(c, q.kind, q.request);
		else
			checkpoint_not_done(c, &q, c->op.vacated ? "the job was vacated" : "the job has ended");
	}
}

void checkpoint_request_gone(struct checkpoint *c, struct request *r)
{
	if (c->op.request == r)
		c->op.request = NULL;
	for (unsigned i = 0; i < c->n_queue; i++) {
		if (c->queue[i].request != r)
			continue;
		c->queue[i].request = NULL;
		log_info("the client that asked for a %s is gone; it waits for its turn all the same",
			 op_name(c->queue[i].kind));
		break;
	}
	checkpoint_merge_queue(c);
}

void checkpoint_cancel(struct checkpoint *c, const char *why)
{
	struct op *op = &c->op;

	if (!op->active || op->vacated)
		return;
	c->held_cancelled(c->arg);
	proc_forget(&op->worker);
	hook_stop(c->hook);
	make_room_stop(&c->make_room);
	if (c->job->store_ok && !op->held && op->epoch) {
		store_abort_epoch(&c->job->store, op->epoch);
		job_quota_end(c->job);
	}
	if (op->held) /* the epoch is complete, and has been logged */
		job_log(c->job, "the vacate is given up: %s", why);
	else
		job_log(c->job, "epoch %u (%s) given up: %s", op->epoch, op_name(op->kind), why);
	request_refuse(op->request, op_name(op->kind), why, op->held ? "its last state is saved" : "nothing was saved");
	checkpoint_finish(c);
}
