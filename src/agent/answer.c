#include "agent/answer.h"

#include <string.h>

#include "agent/worker_request.h"
#include "base/json.h"
#include "base/util.h"
#include "base/clock.h"

#define ANSWER_EPOCHS_MAX 300 /* epochs in an answer, which must fit one line of the protocol */

static json_t *answer_epochs(const struct job_record *rec)
{
	json_t *list = json_array();
	unsigned first = rec->n_epochs > ANSWER_EPOCHS_MAX ? rec->n_epochs - ANSWER_EPOCHS_MAX : 0;

	for (unsigned i = first; i < rec->n_epochs; i++) {
		const struct epoch_summary *e = &rec->epochs[i];

		json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "epoch", (json_int_t)e->number,
						      "time", (json_int_t)e->time, "bytes", (json_int_t)e->bytes,
						      "frozen_us", (json_int_t)e->frozen_us, "total_us",
						      (json_int_t)e->total_us, "run", (json_int_t)e->run));
	}
	return list;
}

/* The answer to op: "status", "error" or "list", or the first part of that to "able". */
static json_t *answer_describe(const struct agent *a, const char *op)
{
	const struct status *s = &a->publish.status;
	const struct op *operation = &a->checkpoint.op;
	const struct job_record *rec = &a->job.rec;
	json_t *o = json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:o, s:I, s:I, s:I, s:s}", "event", "result", "ok", 1,
			      "op", op, "state", status_state_text(s), "interval", (json_int_t)s->interval, "epoch",
			      (json_int_t)s->epoch, "error", json_text(s->error), "skipped", (json_int_t)s->skipped,
			      "restored", (json_int_t)s->restored, "run", (json_int_t)rec->run, "uuid", a->job.task.uuid);

	if (!o)
		return NULL;
	if (a->job.every)
		json_object_set_new(o, "every", json_integer(a->job.every));
	json_object_set_new(o, "busy", json_boolean(operation->active));
	if (operation->active) {
		json_object_set_new(o, "operation", json_string(op_name(operation->kind)));
		json_object_set_new(o, "phase", json_text(operation->phase));
		json_object_set_new(o, "began", json_integer(operation->began));
	}
	if (a->sched.timer.at)
		json_object_set_new(o, "next_in", json_integer((a->sched.timer.at - now_us()) / 1000000));
	if (strcmp(op, "list") == 0 || strcmp(op, "status") == 0)
		json_object_set_new(o, "epochs", answer_epochs(rec));
	return o;
}

void answer_able(struct agent *a, const char *reason)
{
	for (int i = 0; i < REQUESTS_MAX; i++) {
		struct request *r = &a->requests.slots[i];

		if (r->pid && r->waits) {
			json_t *o = answer_describe(a, "able");
			char gap[400];

			json_object_set_new(o, "able", json_boolean(!reason));
			if (!reason && *write_list_watch_gap(&a->write_list, gap, sizeof(gap)))
				json_object_set_new(o, "warning", json_text(gap));
			if (reason)
				json_object_set_new(o, "reason", json_text(reason));
			request_result(r, o);
		}
		r->waits = false;
	}
}

static int answer_check_able(struct agent *a, struct err *err)
{
	cleanup_free char *request = NULL;
	unsigned epoch;

	if (checkpoint_prepare(&a->checkpoint, err) < 0)
		return -1;
	epoch = store_next_epoch(&a->job.store, &a->job.rec, err);
	if (!epoch)
		return -1;
	request = worker_request_text(worker_request_pod(&a->job, &a->pod, a->requests.port, epoch));
	return can_checkpoint_start(&a->can_checkpoint, a->job.libexec, request, err);
}

static void answer_when_able(struct agent *a, struct request *r)
{
	struct err err;

	r->waits = true;
	if (a->phase != PHASE_RUNNING)
		answer_able(a, "the job does not run at the moment");
	else if (a->checkpoint.op.active)
		answer_able(a, NULL); /* the answer says since when */
	else if (!can_checkpoint_running(&a->can_checkpoint) && answer_check_able(a, &err) < 0)
		answer_able(a, err.text);
}

void answer_request(struct agent *a, struct request *r, const char *op)
{
	if (strcmp(op, "create") == 0)
		checkpoint_request(&a->checkpoint, OP_CREATE, r);
	else if (strcmp(op, "vacate") == 0)
		checkpoint_request(&a->checkpoint, OP_VACATE, r);
	else if (strcmp(op, "able") == 0)
		answer_when_able(a, r);
	else
		request_result(r, answer_describe(a, op));
}
