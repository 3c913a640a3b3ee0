/* able and error. Their output is that of the versions of Slurm with `scontrol checkpoint`. */
#include "cli/user/checkpoint.h"

#include <stdio.h>

#include "base/json.h"
#include "base/text.h"
#include "base/clock.h"
#include "cli/json_out.h"

/* What able has found out of a job. */
struct able {
	bool able;
	int64_t began;                /* Unix: a checkpoint is being made since; 0 = none is */
	const char *reason, *warning; /* NULL = none */
};

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

static void able_append(const struct request *r, uint32_t id, const char *label, const struct able *a)
{
	json_array_append_new(r->able,
			      json_pack("{s:I, s:o, s:b, s:o, s:o, s:o}", "job_id", (json_int_t)id, "label",
					json_text(label), "able", a->able, "busy_since", json_out_known(a->began),
					"reason", json_out_text(a->reason ? a->reason : ""), "warning",
					json_out_text(a->warning ? a->warning : "")));
}

static void able_print(const struct request *r, struct target *t, const struct able *a)
{
	char text[64], when[32];

	print_warning(t, a->warning);
	if (a->reason)
		print_reason(t, a->reason);
	if (a->began)
		snprintf(text, sizeof(text), "Began at %s", format_time(a->began, when, sizeof(when)));
	else
		snprintf(text, sizeof(text), "%s", a->able ? "Yes" : "No");
	print_answer(r, t, text);
}

static void able_answer(const struct request *r, struct target *t, const struct able *a)
{
	progress_end(&t->progress);
	if (r->able)
		able_append(r, t->id, t->job.label, a);
	else
		able_print(r, t, a);
}

void able_answer_waiting(const struct request *r, const struct slurm_job *job)
{
	const struct able a = { .reason = "it is pending and has never run" };

	if (r->able)
		able_append(r, job->id, job->label, &a);
	else if (r->single)
		puts("No");
	else
		printf("job %s: No\n", job->label);
}

void able_print_json(struct request *r)
{
	json_t *o = json_out_new("able", 1);

	json_object_set_new(o, "jobs", r->able);
	json_out_print(o);
	json_decref(o);
	r->able = NULL;
}

static int ask_able(const struct request *r, struct target *t)
{
	cleanup_json json_t *result = NULL;
	struct able a = { 0 };
	struct err err;

	if (target_ask(r, t, "able", &result, &err) != CLIENT_DONE)
		return target_fail(t, "%s", err.text);
	a.warning = json_string_value(json_object_get(result, "warning"));
	a.able = json_is_true(json_object_get(result, "able"));
	if (json_is_true(json_object_get(result, "busy")))
		a.began = json_integer_value(json_object_get(result, "began"));
	else if (!a.able)
		a.reason = json_string_value(json_object_get(result, "reason"));
	if (!a.able && !a.began && !a.reason)
		a.reason = "the agent gives no reason";
	able_answer(r, t, &a);
	return CLI_OK;
}

/* The answer is also "No" for a job that does not run or can never be checkpointed. */
int op_able(const struct request *r, struct target *t)
{
	struct able no = { 0 };
	struct err err;

	if (target_check_enabled(t, &err) < 0 || target_check_running(t, "checkpointed", &err) < 0) {
		no.reason = err.text;
		able_answer(r, t, &no);
		return CLI_OK;
	}
	if (target_check_user(r, t, &err) < 0 || target_check_outside(t, &err) < 0)
		return target_fail(t, "%s", err.text);
	return ask_able(r, t);
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
