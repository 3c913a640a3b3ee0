#include "agent/record_history.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "policy/reason.h"

void record_history_write(struct job *j)
{
	struct err err;

	if (j->store_ok && history_save(&j->store, j->task.uid, &j->history, &err) < 0)
		log_warn("%s", err.text);
}

static struct history_event record_history_event(const struct job *j, enum history_kind kind, const char *why)
{
	struct history_event e = { .time = time(NULL), .kind = kind, .run = j->rec.run };

	snprintf(e.node, sizeof(e.node), "%.*s", (int)sizeof(e.node) - 1, j->task.node);
	snprintf(e.reason, sizeof(e.reason), "%.*s", (int)sizeof(e.reason) - 1, why);
	return e;
}

static void record_history_add(struct job *j, const struct history_event *e)
{
	history_add(&j->history, e);
	record_history_write(j);
}

void record_history_started(struct job *j, bool over)
{
	const struct history_event e = record_history_event(j, HISTORY_STARTED, "");

	if (over)
		history_count(&j->history.tally.restores, "started_over", 1);
	record_history_add(j, &e);
}

static int64_t record_history_number(const json_t *result, const char *key)
{
	const json_int_t n = json_integer_value(json_object_get(result, key));

	return n > 0 ? n : 0;
}

void record_history_epoch(struct job *j, const char *trigger, bool leaves, unsigned epoch, const json_t *result)
{
	struct history_tally *t = &j->history.tally;
	struct history_event e = record_history_event(j, HISTORY_EPOCH, "");
	const int64_t now = e.time;

	e.epoch = epoch;
	e.bytes = (uint64_t)record_history_number(result, "bytes");
	e.written = (uint64_t)record_history_number(result, "written");
	e.frozen_us = record_history_number(result, "frozen_us");
	e.total_us = record_history_number(result, "total_us");
	if (record_history_number(result, "time"))
		e.time = record_history_number(result, "time");
	e.used = job_used(j) - (now > e.time ? now - e.time : 0);
	e.used = e.used > 0 ? e.used : 0;
	snprintf(e.trigger, sizeof(e.trigger), "%s", trigger);
	history_count(&t->made, trigger, 1);
	if (!leaves)
		history_count_freeze(t, e.frozen_us);
	t->total_us += (uint64_t)e.total_us;
	t->written += e.written;
	history_add(&j->history, &e);
}

void record_history_failed(struct job *j, const char *trigger, unsigned epoch, bool refused, const char *why)
{
	struct history_tally *t = &j->history.tally;
	struct history_event e = record_history_event(j, refused ? HISTORY_REFUSED : HISTORY_FAILED, why);

	e.epoch = epoch;
	snprintf(e.trigger, sizeof(e.trigger), "%s", trigger);
	history_count(refused ? &t->refused : &t->failed, reason_of(why), 1);
	record_history_add(j, &e);
}

void record_history_skipped(struct job *j, unsigned n, const char *why)
{
	struct history_event e = record_history_event(j, HISTORY_SKIPPED, why);

	e.times = n;
	j->history.tally.skipped += n;
	record_history_add(j, &e);
}

void record_history_left(struct job *j, const char *trigger, unsigned epoch)
{
	struct history_event e = record_history_event(j, HISTORY_LEFT, "");

	e.epoch = epoch;
	snprintf(e.trigger, sizeof(e.trigger), "%s", trigger);
	record_history_add(j, &e);
}

void record_history_restored(struct job *j, unsigned epoch, int64_t took, int64_t last_seen)
{
	struct history_tally *t = &j->history.tally;
	struct history_event e = record_history_event(j, HISTORY_RESTORED, "");
	struct history_work work;

	history_work(&j->history, epoch, last_seen, &work);
	e.epoch = epoch;
	e.total_us = took;
	e.used = work.used;
	e.seen = last_seen;
	e.lost = work.lost;
	history_count(&t->restores, "ok", 1);
	t->restore_us += (uint64_t)took;
	t->saved += (uint64_t)work.saved;
	t->lost += (uint64_t)work.lost;
	record_history_add(j, &e);
}

void record_history_restore_failed(struct job *j, unsigned epoch, const char *why)
{
	struct history_event e = record_history_event(j, HISTORY_RESTORE_FAILED, why);

	e.epoch = epoch;
	history_count(&j->history.tally.restores, "failed", 1);
	record_history_add(j, &e);
}

void record_history_moved(struct job *j, const char *why)
{
	const struct history_event e = record_history_event(j, HISTORY_MOVED, why);

	history_count(&j->history.tally.restores, "moved", 1);
	record_history_add(j, &e);
}

void record_history_held(struct job *j, const char *why)
{
	const struct history_event e = record_history_event(j, HISTORY_HELD, why);

	history_count(&j->history.tally.restores, "held", 1);
	record_history_add(j, &e);
}

void record_history_ended(struct job *j, const char *how)
{
	const struct history_event e = record_history_event(j, HISTORY_ENDED, how);

	record_history_add(j, &e);
}

void record_history_lease_late(struct job *j)
{
	j->history.tally.lease_late++;
}
