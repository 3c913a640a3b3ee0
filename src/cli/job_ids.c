#include "cli/job_ids.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/text.h"
#include "base/util.h"

/* Limits of Slurm: MAX_JOB_ID, and array tasks up to 4000000. */
#define JOB_ID_MAX  0x03FFFFFFu
#define TASK_ID_MAX 4000000u

#define FORMS       "give job ids as 12, 12_3 (a task of an array), 12_[1-3] or a list of these with commas"

struct list {
	struct job_ref *refs;
	size_t n, room;
};

static int ids_refuse(struct err *err, const char *text, const char *why)
{
	char shown[64];

	return err_set(err, 0, "\"%s\" is no job id: %s; " FORMS, printable(text, shown, sizeof(shown)), why);
}

static bool ids_number(const char **p, uint32_t max, uint32_t *out)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)**p))
		return false;
	for (; isdigit((unsigned char)**p); (*p)++) {
		v = v * 10 + (uint64_t)(**p - '0');
		if (v > max)
			return false;
	}
	*out = (uint32_t)v;
	return true;
}

static int ids_add(struct list *l, uint32_t id, int64_t task, struct err *err)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->refs[i].id == id && l->refs[i].task == task)
			return 0;
	if (l->n >= IDS_MAX)
		return err_set(err, 0, "more than %d job ids in one request", IDS_MAX);
	array_reserve(l->refs, l->n, l->room);
	l->refs[l->n++] = (struct job_ref){ .id = id, .task = task };
	return 0;
}

/* Parses "1-3,7-9:2" and the closing bracket. */
static int ids_parse_tasks(const char **p, const char *text, uint32_t id, struct list *l, struct err *err)
{
	for (;;) {
		uint32_t from, to, step = 1;

		if (!ids_number(p, TASK_ID_MAX, &from))
			return ids_refuse(err, text, "a task number is missing or too large");
		to = from;
		if (**p == '-') {
			(*p)++;
			if (!ids_number(p, TASK_ID_MAX, &to) || to < from)
				return ids_refuse(err, text, "the range of tasks has no proper end");
		}
		if (**p == ':') {
			(*p)++;
			if (!ids_number(p, TASK_ID_MAX, &step) || step == 0)
				return ids_refuse(err, text, "the step behind the colon is missing or zero");
		}
		for (uint64_t t = from; t <= to; t += step)
			if (ids_add(l, id, (int64_t)t, err) < 0)
				return -1;
		if (**p != ',')
			break;
		(*p)++;
	}
	if (**p != ']')
		return ids_refuse(err, text, "the bracket is not closed");
	(*p)++;
	return 0;
}

static int ids_parse_one(const char **p, const char *text, struct list *l, struct err *err)
{
	uint32_t id, task;

	if (!ids_number(p, JOB_ID_MAX, &id) || id == 0)
		return ids_refuse(err, text, "a positive number up to 67108863 is wanted");
	if (**p == '.')
		return ids_refuse(err, text, "steps cannot be checkpointed on their own, only whole jobs");
	if (**p == '+')
		return ids_refuse(err, text, "heterogeneous jobs cannot be checkpointed");
	if (**p != '_')
		return ids_add(l, id, IDS_NO_TASK, err);
	(*p)++;
	if (**p == '[') {
		(*p)++;
		return ids_parse_tasks(p, text, id, l, err);
	}
	if (!ids_number(p, TASK_ID_MAX, &task))
		return ids_refuse(err, text, "the task number behind the underscore is missing or too large");
	return ids_add(l, id, task, err);
}

int ids_parse(const char *text, struct job_ref **refs, size_t *n, struct err *err)
{
	struct list l = { 0 };
	const char *p = text;

	array_reserve_more(l.refs, 0, *n, l.room);
	for (; l.n < *n; l.n++)
		l.refs[l.n] = (*refs)[l.n];
	for (;;) {
		if (ids_parse_one(&p, text, &l, err) < 0)
			break;
		if (*p == '\0') {
			free(*refs);
			*refs = l.refs;
			*n = l.n;
			return 0;
		}
		if (*p++ != ',') {
			ids_refuse(err, text, "unexpected character");
			break;
		}
	}
	free(l.refs);
	return -1;
}

char *ids_format(const struct job_ref *r, char *buf, size_t len)
{
	if (r->task == IDS_NO_TASK)
		snprintf(buf, len, "%u", r->id);
	else
		snprintf(buf, len, "%u_%lld", r->id, (long long)r->task);
	return buf;
}
