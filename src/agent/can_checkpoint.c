/* able: what would stand in the way of a checkpoint now? A worker looks as it does before each of them, and touches
 * nothing. One look at a time; its result is the answer for everybody who waits by then. */
#include "agent/agent.h"

#include <stdio.h>

#include "base/util.h"

#define LOOK_TIMEOUT 30 /* s */

/* reason: NULL = nothing stands in the way. */
static void answer_all(struct agent *a, const char *reason)
{
	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn_slot *c = &a->req.conns[i];

		if (c->pid && c->able)
			conn_able(c, reason);
		c->able = false;
	}
}

static void on_event(void *arg, char *line)
{
	struct agent *a = arg;
	json_error_t je;
	json_t *o = json_loads(line, 0, &je);
	const char *error = json_string_value(json_object_get(o, "error"));

	if (json_is_boolean(json_object_get(o, "ok"))) {
		a->able.done = true;
		snprintf(a->able.reason, sizeof(a->able.reason), "%s", error ? error : "");
	}
	json_decref(o);
}

static void on_end(void *arg, int status)
{
	struct agent *a = arg;

	if (a->able.worker.timed_out)
		snprintf(a->able.reason, sizeof(a->able.reason), "the look at the job took longer than %d s",
			 LOOK_TIMEOUT);
	else if (!a->able.done)
		snprintf(a->able.reason, sizeof(a->able.reason),
			 "fsched-worker ended without a word: is fsched installed completely on this node?");
	answer_all(a, a->able.reason[0] ? a->able.reason : NULL);
}

static int look(struct agent *a, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-worker", a->libexec), *request = NULL;
	char arg1[] = "preflight";
	char *argv[] = { path, arg1, NULL };
	struct proc_spec s = {
		.argv = argv, .keep_fd = -1, .timeout_s = LOOK_TIMEOUT, .on_line = on_event, .on_end = on_end, .arg = a
	};
	unsigned epoch;
	json_t *o;

	if (op_prepare(a, err) < 0 || !(epoch = store_next_epoch(&a->store, &a->rec, err)))
		return -1;
	o = worker_request_pod(a, epoch);
	request = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	s.request = request;
	a->able.done = false;
	a->able.reason[0] = '\0';
	return proc_start(&a->loop, &a->able.worker, &s, err);
}

void able_request(struct agent *a, struct conn_slot *c)
{
	struct err err;

	c->able = true;
	if (a->phase != PHASE_RUNNING)
		answer_all(a, "the job does not run at the moment");
	else if (a->op.active)
		answer_all(a, NULL); /* it says when that began */
	else if (!proc_running(&a->able.worker) && look(a, &err) < 0)
		answer_all(a, err.text);
}

void able_stop(struct agent *a)
{
	proc_forget(&a->able.worker);
	answer_all(a, "the job does not run any more");
}
