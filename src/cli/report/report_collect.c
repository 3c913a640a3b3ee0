#include "cli/report/report_collect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/slurmconf.h"
#include "base/util.h"
#include "cli/report/job_lives.h"
#include "slurm/rpc/slurm_rpc.h"
#include "store/scan.h"

struct collect {
	const struct conf *conf;
	const struct report_select *select;
	struct report *report;
	struct job_history *history;
};

static bool collect_has_id(const struct report_select *s, uint32_t id)
{
	for (size_t i = 0; i < s->n_ids; i++)
		if (s->ids[i] == id)
			return true;
	return !s->n_ids;
}

static bool collect_on_job(const struct scan_job *found, void *arg)
{
	struct collect *c = arg;
	struct report_job *j;

	if (!collect_has_id(c->select, found->record->job_id) ||
	    (c->select->of_user && found->record->uid != c->select->uid))
		return true;
	if (history_load(found->path, found->copy, c->history, NULL) < 0)
		memset(c->history, 0, sizeof(*c->history));
	j = xcalloc(1, sizeof(*j));
	report_fill_job(j, found->record, c->history);
	memcpy(j->uuid, found->record->uuid, sizeof(j->uuid));
	j->aside = found->aside;
	j->running = job_lives(found, c->conf, c->report->now);
	if (found->aside)
		snprintf(j->label, sizeof(j->label), "%u (an older job)", j->id);
	j->proofs = proofs_new(found->path, found->copy);
	if (j->last < c->select->since)
		report_free_job(j);
	else
		report_add(c->report, j);
	return true;
}

/* ---- Slurm ---- */

static bool collect_is_same(const struct report_job *j, const struct slurm_job *job)
{
	struct status entry;

	return !j->aside && status_parse(job->admin_comment, &entry, NULL) == 0 && strcmp(entry.uuid, j->uuid) == 0;
}

static void collect_fill(struct report_job *j, const struct slurm_job *job)
{
	snprintf(j->label, sizeof(j->label), "%s", job->label);
	snprintf(j->name, sizeof(j->name), "%s", job->name);
	rpc_job_state_text(job, j->state, sizeof(j->state));
}

/* slurm_init() ends the process if there is no slurm.conf. */
static void collect_from_slurm(struct report *r)
{
	struct slurm_job *jobs;
	struct err err;
	size_t n;

	if (!slurmconf_path())
		return;
	rpc_init();
	if (rpc_jobs_load(&jobs, &n, &err) < 0)
		return;
	for (size_t i = 0; i < r->n_jobs; i++) {
		const struct slurm_job *job = rpc_jobs_find(jobs, n, r->jobs[i]->id);

		if (job && collect_is_same(r->jobs[i], job))
			collect_fill(r->jobs[i], job);
	}
	rpc_jobs_free(jobs, n);
}

/* ---- what was asked for ---- */

static int collect_check_ids(const struct report_select *s, const struct report *r, struct err *err)
{
	for (size_t i = 0; i < s->n_ids; i++) {
		bool found = false;

		for (size_t k = 0; k < r->n_jobs; k++)
			found |= r->jobs[k]->id == s->ids[i];
		if (!found)
			return err_set(err, 0, "job %u has no checkpoint directory that you may read", s->ids[i]);
	}
	return 0;
}

int report_collect(const struct conf *c, const struct report_select *s, struct report *r, struct err *err)
{
	cleanup_free struct job_history *h = xcalloc(1, sizeof(*h));
	struct collect collect = { c, s, r, h };
	struct scan_result result;

	*r = (struct report){ .now = time(NULL), .since = s->since };
	if (gethostname(r->host, sizeof(r->host) - 1))
		snprintf(r->host, sizeof(r->host), "?");
	if (store_scan(c->dir, false, collect_on_job, &collect, &result, err) < 0 || collect_check_ids(s, r, err) < 0)
		return -1;
	r->hidden = s->n_ids || s->of_user ? 0 : result.hidden;
	report_sort(r);
	collect_from_slurm(r);
	return 0;
}
