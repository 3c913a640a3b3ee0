#include "cli/report/metrics_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "policy/reason.h"

static void metrics_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP fsched_%s %s\n# TYPE fsched_%s %s\n", name, help, name, type);
}

/* Within quotes. Control characters were replaced before. */
static void metrics_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			fputc('\\', out);
		if (*value == '\n')
			fputs("\\n", out);
		else
			fputc(*value, out);
	}
	fputc('"', out);
}

static void metrics_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_head(out, name, type, help);
	fprintf(out, "fsched_%s %" PRIu64 "\n", name, value);
}

static void metrics_seconds(FILE *out, const char *name, const char *help, uint64_t us)
{
	metrics_head(out, name, "counter", help);
	fprintf(out, "fsched_%s %" PRIu64 ".%06" PRIu64 "\n", name, us / 1000000, us % 1000000);
}

static void metrics_count(FILE *out, const char *name, const char *label, const char *value, uint64_t n)
{
	fprintf(out, "fsched_%s{", name);
	metrics_label(out, label, value);
	fprintf(out, "} %" PRIu64 "\n", n);
}

/* known: the values that are printed even if they are 0, so that an increase from 0 to 1 is seen as one. The others
 * come from another version of fsched. */
static void metrics_counts(FILE *out, const char *name, const char *label, const char *const *known, size_t n_known,
			   const struct history_counts *c)
{
	for (size_t i = 0; i < n_known; i++)
		metrics_count(out, name, label, known[i], history_counted(c, known[i]));
	for (unsigned i = 0; i < c->n; i++) {
		bool printed = false;

		for (size_t k = 0; k < n_known; k++)
			printed |= strcmp(known[k], c->v[i].name) == 0;
		if (!printed)
			metrics_count(out, name, label, c->v[i].name, c->v[i].n);
	}
}

static void metrics_checkpoints(FILE *out, const struct history_tally *t)
{
	static const char *const triggers[] = { "periodic", "create", "vacate", "limit", "preempt", "requeue" };
	const char *reasons[HISTORY_REASONS];
	size_t n = 0;

	while (n < HISTORY_REASONS && (reasons[n] = reason_word(n)))
		n++;
	metrics_head(out, "checkpoints_total", "counter", "Checkpoints made, by what asked for them.");
	metrics_counts(out, "checkpoints_total", "trigger", triggers, ARRAY_SIZE(triggers), &t->made);
	metrics_head(out, "checkpoints_failed_total", "counter", "Checkpoints that failed, by reason.");
	metrics_counts(out, "checkpoints_failed_total", "reason", reasons, n, &t->failed);
	metrics_head(out, "checkpoints_refused_total", "counter",
		     "Checkpoints that were refused before the freeze, by reason.");
	metrics_counts(out, "checkpoints_refused_total", "reason", reasons, n, &t->refused);
	metrics_one(out, "checkpoints_skipped_total", "counter",
		    "Scheduled checkpoints that were skipped for the load of the node.", t->skipped);
	metrics_seconds(out, "checkpoint_duration_seconds_total", "Time that checkpoints took in all.", t->total_us);
	metrics_one(out, "written_bytes_total", "counter",
		    "Bytes written into epochs, without what they share with older epochs.", t->written);
}

static void metrics_freezes(FILE *out, const struct history_tally *t)
{
	uint64_t n = 0;

	metrics_head(out, "freeze_seconds", "histogram",
		     "How long jobs stood still for a checkpoint after which they ran on.");
	for (unsigned i = 0; i < HISTORY_BUCKETS; i++) {
		n += t->frozen[i];
		fprintf(out, "fsched_freeze_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
			(double)history_bounds_us[i] / 1000000, n);
	}
	n += t->frozen[HISTORY_BUCKETS];
	fprintf(out, "fsched_freeze_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", n);
	fprintf(out, "fsched_freeze_seconds_sum %" PRIu64 ".%06" PRIu64 "\n", t->frozen_us / 1000000,
		t->frozen_us % 1000000);
	fprintf(out, "fsched_freeze_seconds_count %" PRIu64 "\n", n);
}

static void metrics_restores(FILE *out, const struct history_tally *t)
{
	static const char *const outcomes[] = { "ok", "failed", "moved", "started_over", "held" };

	metrics_head(out, "restores_total", "counter", "Attempts to restore a job, by outcome.");
	metrics_counts(out, "restores_total", "outcome", outcomes, ARRAY_SIZE(outcomes), &t->restores);
	metrics_seconds(out, "restore_duration_seconds_total", "Time that restores which succeeded took.", t->restore_us);
	metrics_one(out, "work_saved_seconds_total", "counter",
		    "Running time of jobs that restores did not have to repeat.", t->saved);
	metrics_one(out, "work_lost_seconds_total", "counter",
		    "Running time of jobs between the restored epoch and the failure.", t->lost);
	metrics_one(out, "lease_renewals_late_total", "counter",
		    "Renewals of leases later than half of CheckpointLeaseTime.", t->lease_late);
}

static void metrics_storage(FILE *out, const struct metrics *m)
{
	metrics_head(out, "kept_bytes", "gauge", "Bytes of all epochs on disk, by user.");
	for (size_t i = 0; i < m->n_users; i++)
		metrics_count(out, "kept_bytes", "user", m->users[i].name, m->users[i].bytes);
	metrics_head(out, "kept_epochs", "gauge", "Epochs on disk, by user.");
	for (size_t i = 0; i < m->n_users; i++)
		metrics_count(out, "kept_epochs", "user", m->users[i].name, m->users[i].epochs);
}

static void metrics_job_labels(FILE *out, const char *name, const struct metrics_job *j)
{
	fprintf(out, "fsched_%s{job=\"%" PRIu32 "\",", name, j->id);
	metrics_label(out, "user", j->user);
	fputc(',', out);
	metrics_label(out, "node", j->node);
	fputs("} ", out);
}

static void metrics_jobs(FILE *out, const struct metrics *m)
{
	metrics_head(out, "jobs", "gauge", "Jobs with a checkpoint directory, by the state of their record.");
	for (size_t i = 0; i < ARRAY_SIZE(m->states); i++)
		metrics_count(out, "jobs", "state", intent_name((enum intent)i), m->states[i]);
	metrics_one(out, "jobs_without_epoch", "gauge", "Running jobs that have no epoch of their present run yet.",
		    m->unprotected);
	metrics_one(out, "jobs_unreadable", "gauge", "Checkpoint directories whose record cannot be read.",
		    m->unreadable);
	metrics_head(out, "job_last_epoch_timestamp_seconds", "gauge",
		     "Unix time of the last good epoch of each running job.");
	for (size_t i = 0; i < m->n_jobs; i++) {
		if (!m->jobs[i].epoch)
			continue;
		metrics_job_labels(out, "job_last_epoch_timestamp_seconds", &m->jobs[i]);
		fprintf(out, "%" PRId64 "\n", m->jobs[i].epoch_time);
	}
	metrics_head(out, "job_last_epoch_age_seconds", "gauge", "Age of the last good epoch of each running job.");
	for (size_t i = 0; i < m->n_jobs; i++) {
		if (!m->jobs[i].epoch)
			continue;
		metrics_job_labels(out, "job_last_epoch_age_seconds", &m->jobs[i]);
		fprintf(out, "%" PRId64 "\n", m->now > m->jobs[i].epoch_time ? m->now - m->jobs[i].epoch_time : 0);
	}
}

void metrics_print(const struct metrics *m, FILE *out)
{
	metrics_head(out, "build_info", "gauge", "The version of fsched; always 1.");
	fprintf(out, "fsched_build_info{version=\"%s\"} 1\n", FSCHED_VERSION);
	metrics_checkpoints(out, &m->tally);
	metrics_freezes(out, &m->tally);
	metrics_restores(out, &m->tally);
	metrics_storage(out, m);
	metrics_jobs(out, m);
}
