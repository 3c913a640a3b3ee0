/* create and vacate: the agent makes the checkpoint, this prints the outcome. */
#include "cli/user/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "agent/protocol.h"
#include "base/text.h"
#include "base/clock.h"

#define HOW_TO_CHECK    "check with: scontrol show job %s | grep Checkpoint"
#define REQUEUE_WAIT_US 120000000

static int64_t result_number(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

/* "12.3 MiB, frozen 31 ms, 0.2 s in all" */
static void format_result(const json_t *j, char *buf, size_t len)
{
	char size[32], frozen[32], total[32];

	format_size((uint64_t)result_number(j, "bytes"), size, sizeof(size));
	format_duration(result_number(j, "frozen_us"), frozen, sizeof(frozen));
	format_duration(result_number(j, "total_us"), total, sizeof(total));
	if (result_number(j, "frozen_us") > 0)
		snprintf(buf, len, "%s, frozen %s, %s in all", size, frozen, total);
	else /* an agent of an older fsched, which could not measure it in a vacate */
		snprintf(buf, len, "%s, %s in all", size, total);
}

static void print_warnings(const struct request *r, struct target *t, const json_t *result)
{
	const json_t *list = json_object_get(result, "warnings");
	char shown[512];
	json_t *w;
	size_t i;

	json_array_foreach(list, i, w)
		if (json_is_string(w))
			target_say(r, t, "warning: %s", printable(json_string_value(w), shown, sizeof(shown)));
}

/* Prints why the operation was not done. Returns the exit status. */
static int create_explain_failure(enum client_outcome o, const char *op, struct target *t, const json_t *result,
				  const struct err *err)
{
	const char *state = json_string_value(json_object_get(result, "state"));
	char shown[256];

	switch (o) {
	case CLIENT_REFUSED:
		if (state && *state)
			return target_fail(t, "%s; %s", err->text, printable(state, shown, sizeof(shown)));
		return target_fail(t, "%s", err->text);
	case CLIENT_SILENT:
		return target_fail(
			t, "the agent has the request but has not answered in time; %s goes on by itself: " HOW_TO_CHECK,
			op, t->job.label);
	case CLIENT_LOST:
		return target_fail(t, "%s; whether %s happened is not known: " HOW_TO_CHECK, err->text, op, t->job.label);
	default: return target_fail(t, "%s; nothing was done", err->text);
	}
}

static int create_ask(const struct request *r, struct target *t, json_t **result)
{
	const char *verb = strcmp(r->op, "vacate") == 0 ? "vacated" : "checkpointed";
	enum client_outcome o;
	struct err err;

	if (target_check_enabled(t, &err) < 0 || target_check_user(r, t, &err) < 0 ||
	    target_check_running(t, verb, &err) < 0 || target_check_outside(t, &err) < 0)
		return target_fail(t, "%s", err.text);
	o = target_ask(r, t, r->op, result, &err);
	if (o == CLIENT_DONE)
		return CLI_OK;
	return create_explain_failure(o, r->op, t, *result, &err);
}

int op_create(const struct request *r, struct target *t)
{
	json_t *result = NULL;
	int rc = create_ask(r, t, &result);
	char text[128];

	if (rc == CLI_OK) {
		format_result(result, text, sizeof(text));
		target_say(r, t, "epoch %lld saved: %s", (long long)result_number(result, "epoch"), text);
		print_warnings(r, t, result);
	}
	json_decref(result);
	return rc;
}

/* Waits until the job is pending or has ended and Slurm has freed its node. -1: timeout. */
static int wait_for_requeue(struct target *t)
{
	int64_t until = now_us() + REQUEUE_WAIT_US;
	unsigned round = 0;

	progress_doing(&t->progress, "waiting for Slurm to free the node");
	while (now_us() < until) {
		if (target_load(t, NULL) == 0 && (t->job.pending || t->job.finished) && !t->job.completing)
			return 0;
		target_pause(t, &round);
	}
	return -1;
}

int op_vacate(const struct request *r, struct target *t)
{
	json_t *result = NULL;
	int rc = create_ask(r, t, &result);
	char text[128];

	if (rc == CLI_OK) {
		if (!r->wait || wait_for_requeue(t) < 0)
			rc = CLI_LATER;
		if (r->wait && t->job.finished) {
			rc = target_fail(
				t,
				"saved as epoch %lld, but it was ended meanwhile (%s) and is not in the queue; to continue it "
				"all the same: scontrol requeuehold %s, then scontrol checkpoint restart %s",
				(long long)result_number(result, "epoch"), t->job.state, t->job.label, t->job.label);
			json_decref(result);
			return rc;
		}
		format_result(result, text, sizeof(text));
		target_say(r, t, "vacated at epoch %lld: %s (held; continue with: scontrol checkpoint restart %s)",
			   (long long)result_number(result, "epoch"), text, t->job.label);
		print_warnings(r, t, result);
		if (rc == CLI_LATER && r->wait)
			target_say(r, t, "its processes are gone, but Slurm has not freed the node yet: squeue -j %s",
				   t->job.label);
	}
	json_decref(result);
	return rc;
}
