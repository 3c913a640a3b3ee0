#include "store/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

#define OTHER "other"

const int64_t history_bounds_us[HISTORY_BUCKETS] = { 5000,    10000,   25000,   50000,    100000,   250000,  500000,
						     1000000, 2500000, 5000000, 10000000, 30000000, 60000000 };

/* clang-format off */
static const char *const history_kind_names[HISTORY_KINDS] = {
	[HISTORY_STARTED]        = "started",
	[HISTORY_EPOCH]          = "epoch",
	[HISTORY_FAILED]         = "failed",
	[HISTORY_REFUSED]        = "refused",
	[HISTORY_SKIPPED]        = "skipped",
	[HISTORY_RESTORED]       = "restored",
	[HISTORY_RESTORE_FAILED] = "restore_failed",
	[HISTORY_MOVED]          = "moved",
	[HISTORY_HELD]           = "held",
	[HISTORY_LEFT]           = "left",
	[HISTORY_ENDED]          = "ended",
};
/* clang-format on */

const char *history_kind_name(enum history_kind k)
{
	return (unsigned)k < HISTORY_KINDS ? history_kind_names[k] : "unknown";
}

/* ---- counts ---- */

static struct history_count *history_find(struct history_counts *c, const char *name)
{
	for (unsigned i = 0; i < c->n; i++)
		if (strcmp(c->v[i].name, name) == 0)
			return &c->v[i];
	return NULL;
}

/* The last place is for "other". */
static struct history_count *history_place(struct history_counts *c, const char *name)
{
	struct history_count *e = history_find(c, name);

	if (e)
		return e;
	if (c->n >= HISTORY_REASONS - 1) {
		e = history_find(c, OTHER);
		if (e)
			return e;
		name = OTHER;
	}
	e = &c->v[c->n < HISTORY_REASONS ? c->n++ : HISTORY_REASONS - 1];
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->n = 0;
	return e;
}

void history_count(struct history_counts *c, const char *name, uint64_t n)
{
	char clean[sizeof(c->v[0].name)];

	if (n)
		history_place(c, printable(name, clean, sizeof(clean)))->n += n;
}

uint64_t history_counted(const struct history_counts *c, const char *name)
{
	for (unsigned i = 0; i < c->n; i++)
		if (strcmp(c->v[i].name, name) == 0)
			return c->v[i].n;
	return 0;
}

uint64_t history_sum(const struct history_counts *c)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < c->n; i++)
		sum += c->v[i].n;
	return sum;
}

void history_count_freeze(struct history_tally *t, int64_t us)
{
	unsigned i = 0;

	while (i < HISTORY_BUCKETS && us > history_bounds_us[i])
		i++;
	t->frozen[i]++;
	t->frozen_us += us > 0 ? (uint64_t)us : 0;
}

static void history_counts_add(struct history_counts *to, const struct history_counts *from)
{
	for (unsigned i = 0; i < from->n; i++)
		history_count(to, from->v[i].name, from->v[i].n);
}

void history_tally_add(struct history_tally *to, const struct history_tally *from)
{
	history_counts_add(&to->made, &from->made);
	history_counts_add(&to->failed, &from->failed);
	history_counts_add(&to->refused, &from->refused);
	history_counts_add(&to->restores, &from->restores);
	for (unsigned i = 0; i <= HISTORY_BUCKETS; i++)
		to->frozen[i] += from->frozen[i];
	to->skipped += from->skipped;
	to->frozen_us += from->frozen_us;
	to->total_us += from->total_us;
	to->written += from->written;
	to->restore_us += from->restore_us;
	to->saved += from->saved;
	to->lost += from->lost;
	to->lease_late += from->lease_late;
}

/* ---- events ---- */

static bool history_may_repeat(enum history_kind k)
{
	return k == HISTORY_FAILED || k == HISTORY_REFUSED || k == HISTORY_SKIPPED || k == HISTORY_RESTORE_FAILED;
}

static bool history_repeats(const struct history_event *last, const struct history_event *e)
{
	return history_may_repeat(e->kind) && last->kind == e->kind && !strcmp(last->trigger, e->trigger) &&
	       !strcmp(last->node, e->node) && !strcmp(last->reason, e->reason);
}

static void history_clean(struct history_event *to, const struct history_event *e)
{
	*to = *e;
	printable(e->trigger, to->trigger, sizeof(to->trigger));
	printable(e->node, to->node, sizeof(to->node));
	printable(e->reason, to->reason, sizeof(to->reason));
	to->times = e->times ? e->times : 1;
	to->until = e->until > e->time ? e->until : e->time;
}

void history_add(struct job_history *h, const struct history_event *e)
{
	struct history_event *last = h->n ? &h->v[h->n - 1] : NULL, clean;

	history_clean(&clean, e);
	if (last && history_repeats(last, &clean)) {
		last->times += clean.times;
		last->until = clean.until > last->until ? clean.until : last->until;
		return;
	}
	if (h->n == HISTORY_EVENTS)
		memmove(&h->v[0], &h->v[1], --h->n * sizeof(h->v[0]));
	h->v[h->n++] = clean;
}

/* ---- work ---- */

const struct history_event *history_find_epoch(const struct job_history *h, unsigned epoch)
{
	for (unsigned i = h->n; i > 0; i--)
		if (h->v[i - 1].kind == HISTORY_EPOCH && h->v[i - 1].epoch == epoch)
			return &h->v[i - 1];
	return NULL;
}

/* The last start or restore. */
static const struct history_event *history_last_begin(const struct job_history *h)
{
	for (unsigned i = h->n; i > 0; i--)
		if (h->v[i - 1].kind == HISTORY_STARTED || h->v[i - 1].kind == HISTORY_RESTORED)
			return &h->v[i - 1];
	return NULL;
}

/* A job that was vacated, or saved before its time limit, does nothing that its last epoch lacks. */
static bool history_left_with(const struct job_history *h, unsigned epoch)
{
	for (unsigned i = h->n; i > 0; i--) {
		const enum history_kind k = h->v[i - 1].kind;

		if (k == HISTORY_LEFT || k == HISTORY_EPOCH || k == HISTORY_RESTORED || k == HISTORY_STARTED)
			return k == HISTORY_LEFT && h->v[i - 1].epoch == epoch;
	}
	return false;
}

void history_work(const struct job_history *h, unsigned epoch, int64_t last_seen, struct history_work *w)
{
	const struct history_event *from = history_find_epoch(h, epoch), *began = history_last_begin(h);
	const int64_t had = began ? began->used : 0;
	int64_t since;

	*w = (struct history_work){ 0 };
	if (!from)
		return;
	w->used = from->used;
	w->saved = from->used > had ? from->used - had : 0;
	w->lost = had > from->used ? had - from->used : 0;
	since = began && began->time > from->time ? began->time : from->time;
	if (last_seen > since && !history_left_with(h, epoch))
		w->lost += last_seen - since;
}
