#include "agent/can_checkpoint.h"

#include <jansson.h>
#include <stdio.h>

#include "base/util.h"

#define CAN_CHECKPOINT_TIMEOUT 30 /* s */

static void can_checkpoint_on_line(void *arg, char *line)
{
	struct can_checkpoint *c = arg;
	json_error_t je;
	json_t *o = json_loads(line, 0, &je);
	const char *error = json_string_value(json_object_get(o, "error"));

	if (json_is_boolean(json_object_get(o, "ok"))) {
		c->done = true;
		snprintf(c->reason, sizeof(c->reason), "%s", error ? error : "");
	}
	json_decref(o);
}

static void can_checkpoint_on_end(void *arg, int status)
{
	struct can_checkpoint *c = arg;

	if (c->worker.timed_out)
		snprintf(c->reason, sizeof(c->reason), "the check of the job took longer than %d s",
			 CAN_CHECKPOINT_TIMEOUT);
	else if (!c->done)
		snprintf(c->reason, sizeof(c->reason),
			 "fsched-worker ended without a result: is fsched installed completely on this node?");
	c->answer(c->arg, c->reason[0] ? c->reason : NULL);
}

int can_checkpoint_start(struct can_checkpoint *c, const char *libexec, const char *request, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-worker", libexec);
	char operation[] = "preflight";
	char *argv[] = { path, operation, NULL };
	struct proc_spec s = { .argv = argv,
			       .keep_fd = -1,
			       .request = request,
			       .timeout_s = CAN_CHECKPOINT_TIMEOUT,
			       .on_line = can_checkpoint_on_line,
			       .on_end = can_checkpoint_on_end,
			       .arg = c };

	c->done = false;
	c->reason[0] = '\0';
	return proc_start(c->loop, &c->worker, &s, err);
}

void can_checkpoint_stop(struct can_checkpoint *c)
{
	proc_forget(&c->worker);
}
