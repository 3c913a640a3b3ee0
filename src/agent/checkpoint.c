/* One checkpoint at a time, made by a worker process: the agent starts it, reads its events, bounds its time, and keeps
 * the books. Whatever becomes of the worker, the job runs on (vacate.c: unless Slurm has taken it back into the queue).
 */
#include "agent/agent.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "policy/transient.h"
#include "base/json.h"

/* The worker keeps CheckpointTimeout itself; a worker that does not is killed a little later. */
#define WORKER_MARGIN 30

static void next_queued(struct agent *a);

const char *op_name(enum op_kind kind)
{
	static const char *const names[] = {
		[OP_PERIODIC] = "periodic", [OP_CREATE] = "create", [OP_VACATE] = "vacate", [OP_LIMIT] = "limit", [OP_PREEMPT] = "preempt"
	};

	return names[kind];
}

static json_t *groups_json(const struct task *t)
{
	json_t *list = json_array();

	for (int i = 0; i < t->n_groups; i++)
		json_array_append_new(list, json_integer(t->groups[i]));
	return list;
}

json_t *worker_request(const struct agent *a)
{
	const struct task *t = &a->task;

	json_t *o = json_pack("{s:I, s:I, s:o, s:b, s:b, s:s}", "uid", (json_int_t)t->uid, "gid", (json_int_t)t->gid,
			      "groups", groups_json(t), "sign", 1, "private_tmp", t->private_tmp ? 1 : 0, "uuid",
			      t->uuid);

	json_set_name(o, "job_dir", a->store.path);
	json_set_name(o, "config", t->config);
	json_set_name(o, "script", t->script);
	return o;
}

json_t *worker_request_pod(const struct agent *a, unsigned epoch)
{
	json_t *o = worker_request(a);

	json_object_set_new(o, "init_pid", json_integer(a->pod.init));
	json_set_name(o, "pod_dir", a->pod.dir);
	json_object_set_new(o, "epoch", json_integer(epoch));
	json_object_set_new(o, "agent_port", json_integer(a->req.port));
	return o;
}

static char *request_text(const struct agent *a)
{
	const struct op *op = &a->op;
	json_t *o = worker_request_pod(a, op->epoch);
	char *text;

	json_object_set_new(o, "vacate", json_boolean(op_leaves(op->kind)));
	json_object_set_new(o, "reason", json_string(op_name(op->kind)));
	json_object_set_new(o, "written", json_boolean(a->written.w != NULL));
	json_object_set_new(o, "run", json_integer(a->rec.run));
	if (a->mailbox.in >= 0)
		json_object_set_new(o, "mailbox",
				    json_pack("{s:i, s:i, s:i}", "pid", getpid(), "in", a->mailbox.in, "out",
					      a->mailbox.out));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

static int64_t result_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

void op_record_epoch(struct agent *a, const json_t *o)
{
	struct epoch_summary e = {
		.number = a->op.epoch,
		.time = result_int(o, "time"),
		.bytes = (uint64_t)result_int(o, "bytes"),
		.frozen_us = result_int(o, "frozen_us"),
		.total_us = result_int(o, "total_us"),
		.run = a->rec.run,
	};
	const char *memory = json_string_value(json_object_get(o, "memory"));
	struct err err;

	snprintf(e.reason, sizeof(e.reason), "%s", op_name(a->op.kind));
	snprintf(e.memory, sizeof(e.memory), "%s", memory ? memory : "");
	job_add_epoch(a, &e);
	if (job_save(a, &err) < 0) {
		/* the epoch is whole on disk, but the next start would not look at it */
		log_error("epoch %u is complete but cannot be recorded: %s", e.number, err.text);
		publish_error(a, err.text);
	}
}

/* Of a vacate, the freeze is what passed until the epoch was durable: its processes never ran on. */
static void log_epoch(struct agent *a, const json_t *o)
{
	char size[16], frozen[24], total[24];
	int64_t us = result_int(o, "frozen_us");

	const char *memory = json_string_value(json_object_get(o, "memory")),
		   *why = json_string_value(json_object_get(o, "memory_why"));

	job_log(a, "epoch %u complete (%s): %s, %s%s%stotal %s", a->op.epoch, op_name(a->op.kind),
		format_size((uint64_t)result_int(o, "bytes"), size, sizeof(size)), us > 0 ? "frozen " : "",
		us > 0 ? format_duration(us, frozen, sizeof(frozen)) : "", us > 0 ? ", " : "",
		format_duration(result_int(o, "total_us"), total, sizeof(total)));
	if (memory && strcmp(memory, "criu"))
		job_log(a, "epoch %u: memory %s (%s)", a->op.epoch, memory, why ? why : "");
}

void op_hurry(struct agent *a)
{
	struct op *op = &a->op;

	if (!op->active || op->hurried || strcmp(op->phase, "pre-dump") != 0 || proc_send(&op->worker, "hurry") < 0)
		return;
	op->hurried = true;
	job_log(a, "the pre-dump of epoch %u is cut short: the job is to leave its node", op->epoch);
}

static bool is_to_leave(const struct agent *a)
{
	for (unsigned i = 0; i < a->n_queue; i++)
		if (op_leaves(a->queue[i].kind))
			return true;
	return false;
}

static void on_event(void *arg, char *line)
{
	struct agent *a = arg;
	struct op *op = &a->op;
	json_error_t je;
	json_t *o = json_loads(line, 0, &je);
	const char *event = json_string_value(json_object_get(o, "event"));
	const char *name = json_string_value(json_object_get(o, "name"));

	if (event && strcmp(event, "phase") == 0 && name) {
		snprintf(op->phase, sizeof(op->phase), "%s", name);
		conn_phase(op->conn, name);
		if (strcmp(name, "frozen") == 0)
			written_frozen(a);
		if (is_to_leave(a))
			op_hurry(a);
	} else if (event && strcmp(event, "held") == 0 && op_leaves(op->kind) && !op->held) {
		op_record_epoch(a, o);
		log_epoch(a, o);
		vacate_held(a);
	} else if (event && strcmp(event, "result") == 0) {
		json_decref(op->result);
		op->result = json_incref(o);
	} else {
		log_warn("the checkpoint worker said something unknown");
	}
	json_decref(o);
}

static void worker_died(const struct op *op, int status, bool timed_out, unsigned limit, char *text, size_t len)
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

#define WARNED_MAX 100

/* What is the same in every epoch is said once. */
static bool first_time(json_t *told, const json_t *w)
{
	const json_t *t;
	size_t i;

	json_array_foreach(told, i, t)
		if (json_equal(t, w))
			return false;
	if (json_array_size(told) < WARNED_MAX)
		json_array_append_new(told, json_copy((json_t *)(uintptr_t)w));
	return true;
}

static void report_warnings(struct agent *a, const json_t *result)
{
	const json_t *w;
	size_t i;

	if (!a->warned)
		a->warned = json_array();
	json_array_foreach(json_object_get(result, "warnings"), i, w)
		if (json_is_string(w) && first_time(a->warned, w))
			job_log(a, "epoch %u: warning: %s", a->op.epoch, json_string_value(w));
}

#define RESUME_US 2000000

/* Slurm continues a suspended job process by process. One that criu has seized while it was still stopped is stopped
 * again when criu lets it go, and the signal that came meanwhile is lost. */
static void continue_resumed(struct agent *a)
{
	if (!a->op.vacated && a->pod.init && a->lease.continued && a->lease.continued > a->op.began_us - RESUME_US)
		pod_unstop(a, NULL, 0);
}

void op_finish(struct agent *a)
{
	struct op *op = &a->op;

	continue_resumed(a);
	json_decref(op->result);
	free(op->stopped);
	op->result = NULL;
	op->stopped = NULL;
	op->n_stopped = 0;
	op->conn = NULL;
	op->active = op->held = false;
	sched_op_ended(a);
	next_queued(a);
	end_check(a);
}

static void succeeded(struct agent *a)
{
	struct op *op = &a->op;
	const json_t *r = op->result;

	a->tell.failed = 0;
	a->last_failure[0] = '\0';
	op_record_epoch(a, r);
	log_epoch(a, r);
	report_warnings(a, r);
	job_prune(a);
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "%s", a->req.error);
	json_object_set_new(op->result, "op", json_string(op_name(op->kind)));
	conn_result(op->conn, json_incref(op->result));
}

/* Refused because of who asked, or from where: that says nothing of the job, and must not hide what does. */
static bool askers_fault(const struct op *op)
{
	return (op->kind == OP_CREATE || op->kind == OP_VACATE) && json_is_true(json_object_get(op->result, "asker"));
}

/* What fails again in the same way is told once; the entry counts. */
static void count_failure(struct agent *a, const char *text, const char *why)
{
	struct status *s = &a->pub.status;

	if (!s->failed++)
		s->failed_since = time(NULL);
	a->op.passes = failure_passes(why);
	if (strcmp(text, a->last_failure) != 0)
		job_log(a, "%s; the job runs on%s", text, a->op.passes ? ", and it is tried again soon" : "");
	snprintf(a->last_failure, sizeof(a->last_failure), "%s", text);
}

static void failed(struct agent *a, const char *why)
{
	struct op *op = &a->op;
	char text[700];

	if (a->store_ok && op->epoch)
		store_abort_epoch(&a->store, op->epoch);
	pod_unstop(a, op->stopped, op->n_stopped);
	snprintf(text, sizeof(text), "checkpoint (%s) %s: %.600s", op_name(op->kind),
		 json_is_true(json_object_get(op->result, "refused")) ? "not made" : "failed", why);
	if (op->kind == OP_PERIODIC)
		count_failure(a, text, why);
	else
		job_log(a, "%s; the job runs on", text);
	conn_refuse(op->conn, op_name(op->kind), why,
		    op_leaves(op->kind) ? "the job continues and was not vacated" : "the job continues");
	if (askers_fault(op))
		return;
	/* What the node cannot do at the moment is for its administrator. */
	if (op->kind == OP_PERIODIC && json_is_true(json_object_get(op->result, "refused")))
		tell_unprotected(a, why);
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "%.250s", text);
	publish_now(a);
}

static void on_worker_end(void *arg, int status)
{
	struct agent *a = arg;
	struct op *op = &a->op;
	bool ok = json_is_true(json_object_get(op->result, "ok"));

	if (op->held) {
		vacate_worker_end(a, ok);
		return;
	}
	if (!ok) {
		/* criu dies with the pod: if the script has just ended, that is what happened, and no failure of a
		 * checkpoint */
		pod_listen(a);
		if (!op->active)
			return;
	}
	if (ok) {
		succeeded(a);
		publish_now(a);
	} else {
		char why[600];

		if (*a->pod.lost)
			snprintf(why, sizeof(why), "%s", a->pod.lost);
		else
			worker_died(op, status, op->worker.timed_out, a->conf.timeout, why, sizeof(why));
		failed(a, why);
	}
	op_finish(a);
}

int op_prepare(struct agent *a, struct err *err)
{
	if (*a->pod.lost)
		return err_set(err, 0, "%s", a->pod.lost);
	if (!a->conf.criu_enabled)
		return err_set(err, 0,
			       "checkpoints are switched off on this node: CheckpointType is not checkpoint/criu");
	if (job_open_store(a, err) < 0)
		return -1;
	if (a->rec.run == 0) {
		/* the directory was not to be had when the job started */
		a->rec.run = 1;
		snprintf(a->rec.host, sizeof(a->rec.host), "%s", a->task.node);
		a->rec.restart_count = a->task.restart_count;
		if (job_save(a, err) < 0)
			return -1;
		written_start(a, a->pod.init, true);
	}
	if (job_save_copies(a, err) < 0)
		return err_wrap(err, "the job's script cannot be saved");
	return 0;
}

void op_start(struct agent *a, enum op_kind kind, struct conn_slot *c)
{
	struct op *op = &a->op;
	cleanup_free char *path = xasprintf("%s/fsched-worker", a->libexec), *request = NULL;
	char arg1[] = "checkpoint";
	char *argv[] = { path, arg1, NULL };
	struct proc_spec s = { .argv = argv, .keep_fd = -1, .on_line = on_event, .on_end = on_worker_end, .arg = a };
	struct err err;

	memset(op, 0, sizeof(*op));
	op->active = true;
	op->kind = kind;
	op->conn = c;
	op->began = time(NULL);
	op->began_us = now_us();
	snprintf(op->phase, sizeof(op->phase), "start");
	sched_op_begins(a);
	if (op_prepare(a, &err) == 0 && (op->epoch = store_next_epoch(&a->store, &a->rec, &err))) {
		op->n_stopped = pod_stopped(a, &op->stopped);
		written_before(a);
		request = request_text(a);
		s.request = request;
		s.timeout_s = (int)conf_checkpoint_seconds(&a->conf) + WORKER_MARGIN;
		if (proc_start(&a->loop, &op->worker, &s, &err) == 0)
			return;
	}
	failed(a, err.text);
	op_finish(a);
}

/* Does another request that waits do all that this one asks for? What it saves is later than both. */
static bool covered(const struct agent *a, unsigned index)
{
	for (unsigned i = 0; i < a->n_queue; i++)
		if (i != index && a->queue[i].kind >= a->queue[index].kind)
			return true;
	return false;
}

/* Requests that nobody waits for are done once, or else clients that come and go would fill the queue. */
static void merge_queue(struct agent *a)
{
	for (unsigned i = 0; i < a->n_queue;) {
		struct queued *q = &a->queue[i];

		if (q->conn || !covered(a, i)) {
			i++;
			continue;
		}
		log_info("a %s that waits with nobody waiting for it is left out: another request does the same",
			 op_name(q->kind));
		memmove(q, q + 1, (--a->n_queue - i) * sizeof(*q));
	}
}

void op_request(struct agent *a, enum op_kind kind, struct conn_slot *c)
{
	if (a->phase != PHASE_RUNNING) {
		conn_refuse(c, op_name(kind), "the job does not run at the moment", "nothing was done");
	} else if (!a->op.active) {
		op_start(a, kind, c);
	} else if (a->n_queue == QUEUE_MAX) {
		conn_refuse(c, op_name(kind), "too many requests for this job are waiting already", "nothing was done");
	} else {
		a->queue[a->n_queue++] = (struct queued){ kind, c };
		merge_queue(a);
		if (op_leaves(kind))
			op_hurry(a);
		conn_phase(c, "queued");
	}
}

static void not_done(struct agent *a, const struct queued *q, const char *why)
{
	if (!q->conn)
		job_log(a, "a %s that was asked for is not made: %s", op_name(q->kind), why);
	conn_refuse(q->conn, op_name(q->kind), why, "nothing was done");
}

static void next_queued(struct agent *a)
{
	while (a->n_queue && !a->op.active) {
		struct queued q = a->queue[0];

		memmove(&a->queue[0], &a->queue[1], --a->n_queue * sizeof(q));
		if (a->phase == PHASE_RUNNING)
			op_start(a, q.kind, q.conn);
		else
			not_done(a, &q, a->op.vacated ? "the job was vacated" : "the job has ended");
	}
}

/* The client is gone, and was told that its request goes on: so does what has begun, and what waits has its turn. */
void op_conn_gone(struct agent *a, struct conn_slot *c)
{
	if (a->op.conn == c)
		a->op.conn = NULL;
	for (unsigned i = 0; i < a->n_queue; i++) {
		if (a->queue[i].conn != c)
			continue;
		a->queue[i].conn = NULL;
		log_info("the client that asked for a %s is gone; it waits for its turn all the same",
			 op_name(a->queue[i].kind));
		break;
	}
	merge_queue(a);
}

/* The job is ending: no operation delays that. */
void op_cancel(struct agent *a, const char *why)
{
	struct op *op = &a->op;

	if (!op->active || op->vacated)
		return;
	vacate_stop(a);
	proc_forget(&op->worker);
	if (a->store_ok && !op->held)
		store_abort_epoch(&a->store, op->epoch);
	if (op->held) /* the epoch is complete, and has been logged */
		job_log(a, "the vacate is given up: %s", why);
	else
		job_log(a, "epoch %u (%s) given up: %s", op->epoch, op_name(op->kind), why);
	conn_refuse(op->conn, op_name(op->kind), why, op->held ? "its last state is saved" : "nothing was saved");
	op_finish(a);
}
