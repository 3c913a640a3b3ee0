/* history.json: how a job's history is written and read. */
#include "store/history.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "base/util.h"
#include "store/store_internal.h"

#define HISTORY_FILE "history.json"
#define HISTORY_MOST (4 << 20) /* bytes */
#define LARGEST      (INT64_C(1) << 60)

/* ---- writing ---- */

static void history_set(json_t *o, const char *key, uint64_t n)
{
	if (n)
		json_object_set_new(o, key, json_integer((json_int_t)(n > LARGEST ? LARGEST : n)));
}

static void history_set_text(json_t *o, const char *key, const char *text)
{
	if (*text)
		json_object_set_new(o, key, json_text(text));
}

static void history_set_counts(json_t *o, const char *key, const struct history_counts *c)
{
	json_t *counts = json_object();

	for (unsigned i = 0; i < c->n; i++)
		history_set(counts, c->v[i].name, c->v[i].n);
	json_object_set_new(o, key, counts);
}

json_t *history_render_tally(const struct history_tally *t)
{
	json_t *o = json_object(), *frozen = json_array();

	history_set_counts(o, "made", &t->made);
	history_set_counts(o, "failed", &t->failed);
	history_set_counts(o, "refused", &t->refused);
	history_set_counts(o, "restores", &t->restores);
	for (unsigned i = 0; i <= HISTORY_BUCKETS; i++)
		json_array_append_new(frozen, json_integer((json_int_t)t->frozen[i]));
	json_object_set_new(o, "frozen", frozen);
	history_set(o, "skipped", t->skipped);
	history_set(o, "frozen_us", t->frozen_us);
	history_set(o, "total_us", t->total_us);
	history_set(o, "written", t->written);
	history_set(o, "restore_us", t->restore_us);
	history_set(o, "saved", t->saved);
	history_set(o, "lost", t->lost);
	history_set(o, "lease_late", t->lease_late);
	return o;
}

static json_t *history_render_event(const struct history_event *e)
{
	json_t *o = json_object();

	json_object_set_new(o, "kind", json_string(history_kind_name(e->kind)));
	json_object_set_new(o, "time", json_integer((json_int_t)e->time));
	if (e->times > 1) {
		history_set(o, "times", e->times);
		history_set(o, "until", (uint64_t)e->until);
	}
	history_set(o, "epoch", e->epoch);
	history_set(o, "run", e->run);
	history_set_text(o, "trigger", e->trigger);
	history_set_text(o, "node", e->node);
	history_set_text(o, "reason", e->reason);
	history_set(o, "bytes", e->bytes);
	history_set(o, "written", e->written);
	history_set(o, "frozen_us", (uint64_t)e->frozen_us);
	history_set(o, "total_us", (uint64_t)e->total_us);
	history_set(o, "used", (uint64_t)e->used);
	history_set(o, "seen", (uint64_t)e->seen);
	history_set(o, "lost", (uint64_t)e->lost);
	return o;
}

static char *history_render(const struct job_history *h)
{
	cleanup_json json_t *root = json_object();
	json_t *list = json_array();

	for (unsigned i = 0; i < h->n; i++)
		json_array_append_new(list, history_render_event(&h->v[i]));
	json_object_set_new(root, "tally", history_render_tally(&h->tally));
	json_object_set_new(root, "events", list);
	return json_dumps(root, JSON_COMPACT);
}

int history_save(const struct store *s, uid_t owner, const struct job_history *h, struct err *err)
{
	cleanup_free char *text = history_render(h);

	return job_file_save(s, owner, HISTORY_FILE, text, err);
}

/* ---- reading: a member that is missing is 0, one that is implausible is an error ---- */

static int history_get(const json_t *o, const char *key, int64_t *out, struct err *err)
{
	*out = 0;
	return json_object_get(o, key) ? json_get_int(o, key, 0, LARGEST, out, err) : 0;
}

static int history_get_count(const json_t *o, const char *key, uint64_t *out, struct err *err)
{
	int64_t n;

	if (history_get(o, key, &n, err) < 0)
		return -1;
	*out = (uint64_t)n;
	return 0;
}

static int history_get_small(const json_t *o, const char *key, unsigned *out, struct err *err)
{
	*out = 0;
	return json_object_get(o, key) ? json_get_uint(o, key, out, err) : 0;
}

static void history_get_text(const json_t *o, const char *key, char *buf, size_t len)
{
	const char *text = json_string_value(json_object_get(o, key));

	printable(text ? text : "", buf, len);
}

static int history_get_counts(const json_t *o, const char *key, struct history_counts *c, struct err *err)
{
	const json_t *v;
	void *it = json_object_iter(json_object_get(o, key));

	for (; it; it = json_object_iter_next(json_object_get(o, key), it)) {
		v = json_object_iter_value(it);
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > LARGEST)
			return err_set(err, EBADMSG, "member \"%s\" is no list of counts", key);
		history_count(c, json_object_iter_key(it), (uint64_t)json_integer_value(v));
	}
	return 0;
}

static int history_get_frozen(const json_t *o, struct history_tally *t, struct err *err)
{
	const json_t *list = json_get_list(o, "frozen", HISTORY_BUCKETS + 1, err), *v;
	size_t i;

	if (!list)
		return -1;
	json_array_foreach(list, i, v) {
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return err_set(err, EBADMSG, "member \"frozen\" is no list of counts");
		t->frozen[i] = (uint64_t)json_integer_value(v);
	}
	return 0;
}

int history_parse_tally(const json_t *o, struct history_tally *t, struct err *err)
{
	memset(t, 0, sizeof(*t));
	return history_get_counts(o, "made", &t->made, err) || history_get_counts(o, "failed", &t->failed, err) ||
			       history_get_counts(o, "refused", &t->refused, err) ||
			       history_get_counts(o, "restores", &t->restores, err) || history_get_frozen(o, t, err) ||
			       history_get_count(o, "skipped", &t->skipped, err) ||
			       history_get_count(o, "frozen_us", &t->frozen_us, err) ||
			       history_get_count(o, "total_us", &t->total_us, err) ||
			       history_get_count(o, "written", &t->written, err) ||
			       history_get_count(o, "restore_us", &t->restore_us, err) ||
			       history_get_count(o, "saved", &t->saved, err) ||
			       history_get_count(o, "lost", &t->lost, err) ||
			       history_get_count(o, "lease_late", &t->lease_late, err)
		       ? -1
		       : 0;
}

static int history_parse_kind(const json_t *o, enum history_kind *kind, struct err *err)
{
	const char *name = json_string_value(json_object_get(o, "kind"));

	for (unsigned k = 0; name && k < HISTORY_KINDS; k++)
		if (strcmp(name, history_kind_name((enum history_kind)k)) == 0) {
			*kind = (enum history_kind)k;
			return 0;
		}
	return err_set(err, EBADMSG, "member \"kind\" is not a known one");
}

static int history_parse_event(const json_t *o, struct history_event *e, struct err *err)
{
	if (history_parse_kind(o, &e->kind, err) || json_get_int(o, "time", 0, LARGEST, &e->time, err) ||
	    history_get(o, "until", &e->until, err) || history_get_small(o, "times", &e->times, err) ||
	    history_get_small(o, "epoch", &e->epoch, err) || history_get_small(o, "run", &e->run, err) ||
	    history_get_count(o, "bytes", &e->bytes, err) || history_get_count(o, "written", &e->written, err) ||
	    history_get(o, "frozen_us", &e->frozen_us, err) || history_get(o, "total_us", &e->total_us, err) ||
	    history_get(o, "used", &e->used, err) || history_get(o, "seen", &e->seen, err) ||
	    history_get(o, "lost", &e->lost, err))
		return -1;
	history_get_text(o, "trigger", e->trigger, sizeof(e->trigger));
	history_get_text(o, "node", e->node, sizeof(e->node));
	history_get_text(o, "reason", e->reason, sizeof(e->reason));
	e->times = e->times ? e->times : 1;
	e->until = e->until > e->time ? e->until : e->time;
	return 0;
}

/* An event of a kind that a later version has is left out. */
int history_parse(const json_t *root, struct job_history *h, struct err *err)
{
	const json_t *list = json_get_list(root, "events", HISTORY_EVENTS, err), *o;
	struct err why;
	size_t i;

	memset(h, 0, sizeof(*h));
	if (!list || history_parse_tally(json_object_get(root, "tally"), &h->tally, err) < 0)
		return -1;
	json_array_foreach(list, i, o) {
		if (history_parse_event(o, &h->v[h->n], &why) == 0)
			h->n++;
	}
	return 0;
}

int history_load(const char *path, bool copy, struct job_history *h, struct err *err)
{
	cleanup_json json_t *root = job_file_load(path, copy, HISTORY_FILE, HISTORY_MOST, err);

	memset(h, 0, sizeof(*h));
	if (!root)
		return -1;
	if (history_parse(root, h, err) < 0) {
		memset(h, 0, sizeof(*h));
		return err_wrap(err, "%s/%s" HISTORY_FILE " is damaged", path, copy ? OWNER_COPIES "/" : "");
	}
	return 0;
}
