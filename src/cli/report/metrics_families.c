#include "cli/report/metrics_families.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "policy/reason.h"

struct walk {
	const struct metrics_sink *sink;
	const char *name; /* of the family */
};

static void walk_head(struct walk *w, const char *name, const char *type, const char *help)
{
	w->name = name;
	w->sink->family(w->sink->arg, name, type, help);
}

static void walk_sample(const struct walk *w, const char *suffix, const struct metrics_label *labels, size_t n,
			struct metrics_value v)
{
	w->sink->sample(w->sink->arg, w->name, suffix, labels, n, v);
}

static struct metrics_value value_of(uint64_t n)
{
	return (struct metrics_value){ .whole = n };
}

static struct metrics_value value_of_us(uint64_t us)
{
	return (struct metrics_value){ .whole = us / 1000000, .millionths = (unsigned)(us % 1000000), .decimal = true };
}

static void walk_one(struct walk *w, const char *name, const char *type, const char *help, uint64_t value)
{
	walk_head(w, name, type, help);
	walk_sample(w, "", NULL, 0, value_of(value));
}

static void walk_seconds(struct walk *w, const char *name, const char *help, uint64_t us)
{
	walk_head(w, name, "counter", help);
	walk_sample(w, "", NULL, 0, value_of_us(us));
}

static void walk_count(const struct walk *w, const char *label, const char *value, uint64_t n)
{
	walk_sample(w, "", &(struct metrics_label){ label, value }, 1, value_of(n));
}

/* known: the values that are given even if they are 0, so that an increase from 0 to 1 is seen as one. The others come
 * from another version of fsched. */
static void walk_counts(const struct walk *w, const char *label, const char *const *known, size_t n_known,
			const struct history_counts *c)
{
	for (size_t i = 0; i < n_known; i++)
		walk_count(w, label, known[i], history_counted(c, known[i]));
	for (unsigned i = 0; i < c->n; i++) {
		bool given = false;

		for (size_t k = 0; k < n_known; k++)
			given |= strcmp(known[k], c->v[i].name) == 0;
		if (!given)
			walk_count(w, label, c->v[i].name, c->v[i].n);
	}
}

static void walk_checkpoints(struct walk *w, const struct history_tally *t)
{
	static const char *const triggers[] = { "periodic", "create", "vacate", "limit", "preempt", "requeue" };
	const char *reasons[HISTORY_REASONS];
	size_t n = 0;

	while (n < HISTORY_REASONS && (reasons[n] = reason_word(n)))
		n++;
	walk_head(w, "checkpoints_total", "counter", "Checkpoints made, by what asked for them.");
	walk_counts(w, "trigger", triggers, ARRAY_SIZE(triggers), &t->made);
	walk_head(w, "checkpoints_failed_total", "counter", "Checkpoints that failed, by reason.");
	walk_counts(w, "reason", reasons, n, &t->failed);
	walk_head(w, "checkpoints_refused_total", "counter",
		  "Checkpoints that were refused before the freeze, by reason.");
	walk_counts(w, "reason", reasons, n, &t->refused);
	walk_one(w, "checkpoints_skipped_total", "counter",
		 "Scheduled checkpoints that were skipped for the load of the node.", t->skipped);
	walk_seconds(w, "checkpoint_duration_seconds_total", "Time that checkpoints took in all.", t->total_us);
	walk_one(w, "written_bytes_total", "counter",
		 "Bytes written into epochs, without what they share with older epochs.", t->written);
}

static void walk_freezes(struct walk *w, const struct history_tally *t)
{
	uint64_t n = 0;
	char le[32];

	walk_head(w, "freeze_seconds", "histogram",
		  "How long jobs stood still for a checkpoint after which they ran on.");
	for (unsigned i = 0; i < HISTORY_BUCKETS; i++) {
		n += t->frozen[i];
		snprintf(le, sizeof(le), "%g", (double)history_bounds_us[i] / 1000000);
		walk_sample(w, "_bucket", &(struct metrics_label){ "le", le }, 1, value_of(n));
	}
	n += t->frozen[HISTORY_BUCKETS];
	walk_sample(w, "_bucket", &(struct metrics_label){ "le", "+Inf" }, 1, value_of(n));
	walk_sample(w, "_sum", NULL, 0, value_of_us(t->frozen_us));
	walk_sample(w, "_count", NULL, 0, value_of(n));
}

static void walk_restores(struct walk *w, const struct history_tally *t)
{
	static const char *const outcomes[] = { "ok", "failed", "moved", "started_over", "held" };

	walk_head(w, "restores_total", "counter", "Attempts to restore a job, by outcome.");
	walk_counts(w, "outcome", outcomes, ARRAY_SIZE(outcomes), &t->restores);
	walk_seconds(w, "restore_duration_seconds_total", "Time that restores which succeeded took.", t->restore_us);
	walk_one(w, "work_saved_seconds_total", "counter", "Running time of jobs that restores did not have to repeat.",
		 t->saved);
	walk_one(w, "work_lost_seconds_total", "counter",
		 "Running time of jobs between the restored epoch and the failure.", t->lost);
	walk_one(w, "lease_renewals_late_total", "counter",
		 "Renewals of leases later than half of CheckpointLeaseTime.", t->lease_late);
}

static void walk_storage(struct walk *w, const struct metrics *m)
{
	walk_head(w, "kept_bytes", "gauge", "Bytes of all epochs on disk, by user.");
	for (size_t i = 0; i < m->n_users; i++)
		walk_count(w, "user", m->users[i].name, m->users[i].bytes);
	walk_head(w, "kept_epochs", "gauge", "Epochs on disk, by user.");
	for (size_t i = 0; i < m->n_users; i++)
		walk_count(w, "user", m->users[i].name, m->users[i].epochs);
	walk_head(w, "proved_epochs", "gauge",
		  "Epochs on disk that were restored on trial, by what the last trial showed.");
	walk_count(w, "outcome", "ok", m->proved);
	walk_count(w, "outcome", "failed", m->disproved);
}

static void walk_last_epochs(struct walk *w, const struct metrics *m, bool age)
{
	for (size_t i = 0; i < m->n_jobs; i++) {
		const struct metrics_job *j = &m->jobs[i];
		char id[16];
		const struct metrics_label labels[] = { { "job", id }, { "user", j->user }, { "node", j->node } };
		const int64_t seconds = age ? m->now - j->epoch_time : j->epoch_time;

		if (!j->epoch)
			continue;
		snprintf(id, sizeof(id), "%" PRIu32, j->id);
		walk_sample(w, "", labels, ARRAY_SIZE(labels), value_of(seconds > 0 ? (uint64_t)seconds : 0));
	}
}

static void walk_jobs(struct walk *w, const struct metrics *m)
{
	walk_head(w, "jobs", "gauge", "Jobs with a checkpoint directory, by the state of their record.");
	for (size_t i = 0; i < ARRAY_SIZE(m->states); i++)
		walk_count(w, "state", intent_name((enum intent)i), m->states[i]);
	walk_one(w, "jobs_without_epoch", "gauge", "Running jobs that have no epoch of their present run yet.",
		 m->unprotected);
	walk_one(w, "jobs_unreadable", "gauge", "Checkpoint directories whose record cannot be read.", m->unreadable);
	walk_head(w, "job_last_epoch_timestamp_seconds", "gauge",
		  "Unix time of the last good epoch of each running job.");
	walk_last_epochs(w, m, false);
	walk_head(w, "job_last_epoch_age_seconds", "gauge", "Age of the last good epoch of each running job.");
	walk_last_epochs(w, m, true);
}

void metrics_walk(const struct metrics *m, const struct metrics_sink *sink)
{
	struct walk w = { .sink = sink };

	walk_head(&w, "build_info", "gauge", "The version of fsched; always 1.");
	walk_count(&w, "version", FSCHED_VERSION, 1);
	walk_checkpoints(&w, &m->tally);
	walk_freezes(&w, &m->tally);
	walk_restores(&w, &m->tally);
	walk_storage(&w, m);
	walk_jobs(&w, m);
}
