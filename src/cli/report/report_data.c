#include "cli/report/report_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/text.h"
#include "base/util.h"

void report_add(struct report *r, struct report_job *j)
{
	array_reserve(r->jobs, r->n_jobs, r->jobs_room);
	r->jobs[r->n_jobs++] = j;
	history_tally_add(&r->tally, &j->history.tally);
}

static int report_by_last(const void *a, const void *b)
{
	const struct report_job *x = *(struct report_job *const *)a, *y = *(struct report_job *const *)b;

	return x->last != y->last ? (x->last < y->last ? 1 : -1) : (x->id < y->id ? 1 : -1);
}

void report_sort(struct report *r)
{
	if (r->n_jobs)
		qsort(r->jobs, r->n_jobs, sizeof(struct report_job *), report_by_last);
}

void report_free_job(struct report_job *j)
{
	free(j->proofs);
	free(j);
}

void report_free(struct report *r)
{
	for (size_t i = 0; i < r->n_jobs; i++)
		report_free_job(r->jobs[i]);
	free(r->jobs);
}

/* ---- a job ---- */

static int report_by_time(const void *a, const void *b)
{
	const struct history_event *x = a, *y = b;

	return x->time != y->time ? (x->time < y->time ? -1 : 1) : 0;
}

/* Epochs of a job that began under an older version of fsched have no events. */
static void report_add_epochs(struct job_history *h, const struct job_record *rec)
{
	bool added = false;

	for (unsigned i = 0; i < rec->n_epochs; i++) {
		const struct epoch_summary *e = &rec->epochs[i];
		struct history_event event = { .time = e->time,
					       .kind = HISTORY_EPOCH,
					       .epoch = e->number,
					       .run = e->run,
					       .bytes = e->bytes,
					       .frozen_us = e->frozen_us,
					       .total_us = e->total_us };

		if (history_find_epoch(h, e->number))
			continue;
		snprintf(event.trigger, sizeof(event.trigger), "%s", e->reason);
		history_add(h, &event);
		added = true;
	}
	if (added)
		qsort(h->v, h->n, sizeof(h->v[0]), report_by_time);
}

void report_fill_job(struct report_job *j, const struct job_record *rec, const struct job_history *h)
{
	j->id = rec->job_id;
	snprintf(j->label, sizeof(j->label), "%u", rec->job_id);
	printable(rec->user, j->user, sizeof(j->user));
	printable(rec->host, j->node, sizeof(j->node));
	snprintf(j->state, sizeof(j->state), "%s", intent_name(rec->intent));
	j->interval = rec->interval;
	j->used = rec->used;
	j->n_epochs = rec->n_epochs;
	j->kept = record_bytes(rec);
	j->prunable = record_prunable_bytes(rec);
	j->history = *h;
	report_add_epochs(&j->history, rec);
	j->last = j->history.n ? j->history.v[j->history.n - 1].until : 0;
}

/* ---- stretches ---- */

static bool report_begins(const struct history_event *e)
{
	return e->kind == HISTORY_STARTED || e->kind == HISTORY_RESTORED;
}

static bool report_ends(const struct history_event *e)
{
	return e->kind == HISTORY_ENDED || e->kind == HISTORY_LEFT;
}

static struct report_stretch *report_open_stretch(struct report_stretch *v, unsigned *n, const struct history_event *e)
{
	if (*n == REPORT_STRETCHES)
		memmove(&v[0], &v[1], --*n * sizeof(v[0]));
	v[*n] = (struct report_stretch){ .from = e->time, .to = e->time };
	memcpy(v[*n].node, e->node, sizeof(v[*n].node));
	return &v[(*n)++];
}

unsigned report_stretches(const struct report_job *j, int64_t now, struct report_stretch v[REPORT_STRETCHES])
{
	const struct job_history *h = &j->history;
	struct report_stretch *open = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < h->n; i++) {
		const struct history_event *e = &h->v[i];

		if (open && report_begins(e)) {
			open->to = e->kind == HISTORY_RESTORED && e->seen > open->to ? e->seen : open->to;
			open->lost = true;
		}
		if (report_begins(e)) {
			open = report_open_stretch(v, &n, e);
		} else if (open && (e->until > open->to)) {
			open->to = e->until;
		}
		if (open && report_ends(e))
			open = NULL;
	}
	if (open && j->running)
		open->to = now;
	return n;
}
