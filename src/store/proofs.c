#include "store/proofs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "base/util.h"
#include "store/store_internal.h"

#define PROOFS_FILE "proofs.json"
#define PROOFS_MOST (4 << 20) /* bytes */
#define PROOFS_UINT INT64_C(0xffffffff)

static json_t *proof_render(const struct proof *p)
{
	return json_pack("{s:I,s:I,s:b,s:I,s:I,s:I,s:I,s:o,s:o}", "epoch", (json_int_t)p->epoch, "epoch_time",
			 (json_int_t)p->epoch_time, "ok", (int)p->ok, "time", (json_int_t)p->time, "took_us",
			 (json_int_t)p->took_us, "ran_us", (json_int_t)p->ran_us, "processes", (json_int_t)p->processes,
			 "node", json_text(p->node), "error", json_text(p->error));
}

static char *proofs_render(const struct proofs *p)
{
	cleanup_json json_t *list = json_array(), *root = NULL;

	for (unsigned i = 0; list && i < p->n; i++)
		if (json_array_append_new(list, proof_render(&p->v[i])) < 0)
			return NULL;
	root = json_pack("{s:O}", "proofs", list);
	return root ? json_dumps(root, JSON_COMPACT) : NULL;
}

static int proof_parse(const json_t *o, struct proof *p, struct err *err)
{
	char text[sizeof(p->error)];
	int64_t epoch, processes;

	if (json_get_int(o, "epoch", 1, PROOFS_UINT, &epoch, err) < 0 ||
	    json_get_int(o, "epoch_time", 0, INT64_MAX, &p->epoch_time, err) < 0 ||
	    json_get_bool(o, "ok", &p->ok, err) < 0 || json_get_int(o, "time", 0, INT64_MAX, &p->time, err) < 0 ||
	    json_get_int(o, "took_us", 0, INT64_MAX, &p->took_us, err) < 0 ||
	    json_get_int(o, "ran_us", 0, INT64_MAX, &p->ran_us, err) < 0 ||
	    json_get_int(o, "processes", 0, PROOFS_UINT, &processes, err) < 0 ||
	    json_get_text(o, "node", text, sizeof(p->node), err) < 0)
		return -1;
	printable(text, p->node, sizeof(p->node));
	if (json_get_text(o, "error", text, sizeof(text), err) < 0)
		return -1;
	printable(text, p->error, sizeof(p->error));
	p->epoch = (unsigned)epoch;
	p->processes = (unsigned)processes;
	return 0;
}

int proofs_parse(const json_t *root, struct proofs *p, struct err *err)
{
	const json_t *list = json_get_list(root, "proofs", STORE_KEPT_MAX, err), *o;
	size_t i;

	memset(p, 0, sizeof(*p));
	if (!list)
		return -1;
	json_array_foreach(list, i, o)
		if (proof_parse(o, &p->v[p->n++], err) < 0)
			return err_wrap(err, "proof %zu", i);
	return 0;
}

int proofs_load(const char *path, bool copy, struct proofs *p, struct err *err)
{
	cleanup_json json_t *root = job_file_load(path, copy, PROOFS_FILE, PROOFS_MOST, err);

	memset(p, 0, sizeof(*p));
	return root ? proofs_parse(root, p, err) : -1;
}

struct proofs *proofs_new(const char *path, bool copy)
{
	struct proofs *p = xcalloc(1, sizeof(*p));

	if (proofs_load(path, copy, p, NULL) == 0)
		return p;
	free(p);
	return NULL;
}

static bool proofs_epoch_is_there(unsigned epoch, const unsigned *list, int n)
{
	for (int i = 0; i < n; i++)
		if (list[i] == epoch)
			return true;
	return false;
}

/* A file that cannot be read is replaced: it can only be damaged. */
int proofs_add(const struct store *store, uid_t owner, const struct proof *p, struct err *err)
{
	cleanup_free struct proofs *all = xcalloc(1, sizeof(*all));
	cleanup_free unsigned *list = xcalloc(STORE_KEPT_MAX, sizeof(*list));
	cleanup_free char *text = NULL;
	const int n = store_list_epochs(store, list, STORE_KEPT_MAX);
	unsigned kept = 0;

	if (n < 0)
		return err_sys(err, errno, "cannot list the epochs in %s", store->path);
	proofs_load(store->path, false, all, NULL);
	for (unsigned i = 0; i < all->n; i++)
		if (all->v[i].epoch != p->epoch && proofs_epoch_is_there(all->v[i].epoch, list, n))
			all->v[kept++] = all->v[i];
	kept -= kept == STORE_KEPT_MAX;
	all->v[kept++] = *p;
	all->n = kept;
	text = proofs_render(all);
	return job_file_save(store, owner, PROOFS_FILE, text, err);
}

const struct proof *proofs_find(const struct proofs *p, unsigned epoch, int64_t epoch_time)
{
	for (unsigned i = 0; p && i < p->n; i++)
		if (p->v[i].epoch == epoch && p->v[i].epoch_time == epoch_time)
			return &p->v[i];
	return NULL;
}

char *proof_text(const struct proof *p, char buf[PROOF_TEXT])
{
	char when[32], ran[32];

	format_time(p->time, when, sizeof(when));
	if (!p->ok)
		snprintf(buf, PROOF_TEXT, "no: restore failed on %s at %s: %s", p->node, when, p->error);
	else if (p->ran_us)
		snprintf(buf, PROOF_TEXT, "by restore on %s at %s, ran %s (%u process%s)", p->node, when,
			 format_duration(p->ran_us, ran, sizeof(ran)), p->processes, p->processes == 1 ? "" : "es");
	else
		snprintf(buf, PROOF_TEXT, "by restore on %s at %s (%u process%s)", p->node, when, p->processes,
			 p->processes == 1 ? "" : "es");
	return buf;
}
