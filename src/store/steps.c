#include "store/steps.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "base/util.h"
#include "store/store_internal.h"

#define STEPS_FILE "steps.json"
#define STEPS_MOST (1 << 20) /* bytes */
#define LARGEST    (INT64_C(1) << 53)

static int64_t steps_bounded(uint64_t n)
{
	return n > (uint64_t)LARGEST ? LARGEST : (int64_t)n;
}

static void steps_take_entry(struct step_summary *to, const struct step_file_entry *from)
{
	char name[sizeof(from->name) + 1];

	memcpy(name, from->name, sizeof(from->name));
	name[sizeof(from->name)] = '\0';
	printable(name, to->name, sizeof(to->name));
	to->began = from->began > 0 && from->began < LARGEST ? from->began : 0;
	to->ended = from->ended > to->began && from->ended < LARGEST ? from->ended : to->began;
	to->step = from->step > 0 ? from->step : 0;
	to->ntasks = from->ntasks > 0 ? from->ntasks : 0;
	to->status = from->status & 0xffff;
	to->max_rss = (uint64_t)steps_bounded(from->max_rss);
}

void steps_take(struct job_steps *s, const void *file, size_t len)
{
	cleanup_free struct step_file *f = xcalloc(1, sizeof(*f));
	uint64_t n;

	memcpy(f, file, len < sizeof(*f) ? len : sizeof(*f));
	memset(s, 0, sizeof(*s));
	if (len < sizeof(f->head) || f->head.magic != STEP_FILE_MAGIC)
		return;
	s->running = f->head.running;
	s->ended = steps_bounded(f->head.ended);
	s->failed = steps_bounded(f->head.failed);
	n = s->ended < STEP_FILE_KEPT ? (uint64_t)s->ended : STEP_FILE_KEPT;
	for (s->n = 0; s->n < n; s->n++)
		steps_take_entry(&s->v[s->n], &f->v[((uint64_t)s->ended - n + s->n) % STEP_FILE_KEPT]);
}

static char *steps_render(const struct job_steps *s)
{
	cleanup_json json_t *list = json_array(), *root = NULL;

	for (unsigned i = 0; list && i < s->n; i++) {
		const struct step_summary *t = &s->v[i];
		json_t *o = json_pack("{s:i,s:o,s:i,s:I,s:I,s:i,s:I}", "step", t->step, "name", json_text(t->name),
				      "tasks", t->ntasks, "began", (json_int_t)t->began, "ended", (json_int_t)t->ended,
				      "status", t->status, "max_rss", (json_int_t)t->max_rss);

		if (json_array_append_new(list, o) < 0)
			return NULL;
	}
	root = json_pack("{s:I,s:I,s:I,s:O}", "running", (json_int_t)s->running, "ended", (json_int_t)s->ended,
			 "failed", (json_int_t)s->failed, "steps", list);
	return root ? json_dumps(root, JSON_COMPACT) : NULL;
}

static int steps_parse_one(const json_t *o, struct step_summary *t, struct err *err)
{
	int64_t step, tasks, status, rss;
	char name[sizeof(t->name)];

	if (json_get_int(o, "step", 0, INT32_MAX, &step, err) < 0 ||
	    json_get_int(o, "tasks", 0, INT32_MAX, &tasks, err) < 0 ||
	    json_get_int(o, "began", 0, LARGEST, &t->began, err) < 0 ||
	    json_get_int(o, "ended", 0, LARGEST, &t->ended, err) < 0 ||
	    json_get_int(o, "status", 0, 0xffff, &status, err) < 0 ||
	    json_get_int(o, "max_rss", 0, LARGEST, &rss, err) < 0 ||
	    json_get_text(o, "name", name, sizeof(name), err) < 0)
		return -1;
	printable(name, t->name, sizeof(t->name));
	t->step = (int)step;
	t->ntasks = (int)tasks;
	t->status = (int)status;
	t->max_rss = (uint64_t)rss;
	return 0;
}

int steps_parse(const json_t *root, struct job_steps *s, struct err *err)
{
	const json_t *list = json_get_list(root, "steps", STEP_FILE_KEPT, err), *o;
	size_t i;

	memset(s, 0, sizeof(*s));
	if (!list || json_get_uint(root, "running", &s->running, err) < 0 ||
	    json_get_int(root, "ended", 0, LARGEST, &s->ended, err) < 0 ||
	    json_get_int(root, "failed", 0, LARGEST, &s->failed, err) < 0)
		return -1;
	json_array_foreach(list, i, o)
		if (steps_parse_one(o, &s->v[s->n++], err) < 0)
			return err_wrap(err, "step entry %zu", i);
	return 0;
}

int steps_save(const struct store *store, uid_t owner, const struct job_steps *s, struct err *err)
{
	cleanup_free char *text = steps_render(s);

	return job_file_save(store, owner, STEPS_FILE, text, err);
}

void steps_remove(const struct store *store)
{
	unlinkat(store->dirfd, STEPS_FILE, 0);
	unlinkat(store->dirfd, OWNER_COPIES "/" STEPS_FILE, 0);
}

int steps_load(const char *path, bool copy, struct job_steps *s, struct err *err)
{
	cleanup_json json_t *root = job_file_load(path, copy, STEPS_FILE, STEPS_MOST, err);

	memset(s, 0, sizeof(*s));
	return root ? steps_parse(root, s, err) : -1;
}
