/* able and error. Their output is that of the versions of Slurm with `scontrol checkpoint`. */
#include "cli/user/checkpoint.h"

#include <stdio.h>

#include "base/text.h"
#include "base/clock.h"

static void print_answer(const struct request *r, struct target *t, const char *text)
{
	progress_end(&t->progress);
	if (r->single)
		printf("%s\n", text);
	else
		printf("%s: %s\n", t->label, text);
}

/* Prints the reason for "No", or a warning, on standard error: scripts read the one word on standard output. */
static void print_reason(struct target *t, const char *why)
{
	char shown[800];

	target_fail(t, "%s", printable(why, shown, sizeof(shown)));
}

static void print_warning(struct target *t, const char *warning)
{
	char shown[800];

	if (warning)
		target_fail(t, "warning: %s", printable(warning, shown, sizeof(shown)));
}

static int ask_able(const struct request *r, struct target *t, char *text, size_t len)
{
	json_t *result = NULL;
	const char *why;
	char when[32];
	struct err err;

	if (target_ask(r, t, "able", &result, &err) != CLIENT_DONE) {
		json_decref(result);
		return target_fail(t, "%s", err.text);
	}
	why = json_string_value(json_object_get(result, "reason"));
	print_warning(t, json_string_value(json_object_get(result, "warning")));
	if (json_is_true(json_object_get(result, "busy")))
		snprintf(text, len, "Began at %s",
			 format_time(json_integer_value(json_object_get(result, "began")), when, sizeof(when)));
	else if (json_is_true(json_object_get(result, "able")))
		snprintf(text, len, "Yes");
	else
		print_reason(t, why ? why : "the agent gives no reason");
	json_decref(result);
	return CLI_OK;
}

/* The answer is also "No" for a job that does not run or can never be checkpointed. */
int op_able(const struct request *r, struct target *t)
{
	char text[64] = "No";
	struct err err;
	int rc = CLI_OK;

	if (target_check_enabled(t, &err) < 0 || target_check_running(t, "checkpointed", &err) < 0)
		print_reason(t, err.text);
	else if (target_check_user(r, t, &err) < 0 || target_check_outside(t, &err) < 0)
		return target_fail(t, "%s", err.text);
	else
		rc = ask_able(r, t, text, sizeof(text));
	if (rc == CLI_OK)
		print_answer(r, t, text);
	return rc;
}

int op_error(const struct request *r, struct target *t)
{
	char text[sizeof(t->status.error) + 32], shown[sizeof(t->status.error)];
	struct err err;

	if (target_check_enabled(t, &err) < 0)
		return target_fail(t, "%s", err.text);
	printable(t->status.error, shown, sizeof(shown));
	if (*shown)
		snprintf(text, sizeof(text), "error(1): %s", shown);
	else
		snprintf(text, sizeof(text), "error(0): No error");
	print_answer(r, t, text);
	return CLI_OK;
}
