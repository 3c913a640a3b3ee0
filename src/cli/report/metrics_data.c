#include "cli/report/metrics_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/report/job_lives.h"
#include "store/removed.h"
#include "store/scan.h"

static struct metrics_user *metrics_user(struct metrics *m, const char *name)
{
	char clean[sizeof(m->users->name)];

	printable(name, clean, sizeof(clean));
	for (size_t i = 0; i < m->n_users; i++)
		if (strcmp(m->users[i].name, clean) == 0)
			return &m->users[i];
	array_reserve(m->users, m->n_users, m->users_room);
	m->users[m->n_users] = (struct metrics_user){ 0 };
	memcpy(m->users[m->n_users].name, clean, sizeof(clean));
	return &m->users[m->n_users++];
}

static void metrics_add_running(struct metrics *m, const struct job_record *r)
{
	const struct epoch_summary *last = record_newest_epoch(r);
	struct metrics_job *j;

	array_reserve(m->jobs, m->n_jobs, m->jobs_room);
	j = &m->jobs[m->n_jobs++];
	*j = (struct metrics_job){ .id = r->job_id };
	printable(r->user, j->user, sizeof(j->user));
	printable(r->host, j->node, sizeof(j->node));
	if (last) {
		j->epoch = last->number;
		j->epoch_time = last->time;
	} else {
		m->unprotected++;
	}
}

void metrics_add(struct metrics *m, const struct job_record *r, const struct job_history *h, bool running)
{
	struct metrics_user *u = metrics_user(m, r->user);

	u->jobs++;
	u->epochs += r->n_epochs;
	u->bytes += record_bytes(r);
	if ((size_t)r->intent < ARRAY_SIZE(m->states))
		m->states[r->intent]++;
	history_tally_add(&m->tally, &h->tally);
	if (running)
		metrics_add_running(m, r);
}

void metrics_add_proofs(struct metrics *m, const struct job_record *r, const struct proofs *p)
{
	for (unsigned i = 0; i < r->n_epochs; i++) {
		const struct proof *found = proofs_find(p, r->epochs[i].number, r->epochs[i].time);

		m->proved += found && found->ok;
		m->disproved += found && !found->ok;
	}
}

struct metrics_scan {
	struct metrics *m;
	const struct conf *conf;
	struct job_history *h;
	char skip[40]; /* uuid of a job that is counted in removed.json already */
};

static bool metrics_on_job(const struct scan_job *j, void *arg)
{
	struct metrics_scan *s = arg;
	cleanup_free struct proofs *proofs = proofs_new(j->path, j->copy);

	if (history_load(j->path, j->copy, s->h, NULL) < 0 || strcmp(j->record->uuid, s->skip) == 0)
		memset(s->h, 0, sizeof(*s->h));
	metrics_add(s->m, j->record, s->h, job_lives(j, s->conf, s->m->now));
	metrics_add_proofs(s->m, j->record, proofs);
	return true;
}

int metrics_collect(const struct conf *c, struct metrics *m, struct err *err)
{
	cleanup_free struct job_history *h = xcalloc(1, sizeof(*h));
	struct metrics_scan s = { .m = m, .conf = c, .h = h };
	struct scan_result result;

	*m = (struct metrics){ .now = time(NULL) };
	if (geteuid() == 0 && removed_load(c->dir, &m->tally, s.skip, err) < 0)
		return -1;
	if (store_scan(c->dir, false, metrics_on_job, &s, &result, err) < 0)
		return -1;
	m->unreadable = result.damaged;
	return 0;
}

void metrics_free(struct metrics *m)
{
	free(m->users);
	free(m->jobs);
}
