/* able and error, in the words of the Slurm that had them. */
#include "cli/checkpoint.h"

#include <stdio.h>

#include "common/util.h"

static void answer(const struct request *r, struct target *t, const char *text)
{
	progress_end(&t->progress);
	if (r->single)
		printf("%s\n", text);
	else
		printf("%s: %s\n", t->label, text);
}

int op_able(const struct request *r, struct target *t)
{
	json_t *result = NULL;
	char text[64] = "No", when[32];
	struct err err;

	if (!target_check_enabled(t, &err) && !target_check_running(t, "checkpointed", &err)) {
		if (target_check_user(r, t, &err) < 0)
			return target_fail(t, "%s", err.text);
		if (target_ask(r, t, "able", &result, &err) != CLIENT_DONE)
			return target_fail(t, "%s", err.text);
		if (json_is_true(json_object_get(result, "busy")))
			snprintf(text, sizeof(text), "Began at %s",
				 format_time(json_integer_value(json_object_get(result, "began")), when, sizeof(when)));
		else if (json_is_true(json_object_get(result, "able")))
			snprintf(text, sizeof(text), "Yes");
		json_decref(result);
	}
	answer(r, t, text);
	return CLI_OK;
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
	answer(r, t, text);
	return CLI_OK;
}
