#include "cli/qualify/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/user/job_view.h"
#include "store/history.h"

static void measure_epoch(struct qualify_cycle *c, const struct job_history *h)
{
	const struct history_event *e = history_find_epoch(h, c->epoch);

	if (!e)
		return;
	c->bytes = e->bytes;
	c->frozen_us = e->frozen_us;
	c->total_us = e->total_us;
}

/* The first restore from an epoch, from *from on. */
static const struct history_event *measure_restore(const struct job_history *h, unsigned epoch, unsigned *from)
{
	while (*from < h->n) {
		const struct history_event *e = &h->v[(*from)++];

		if (e->kind == HISTORY_RESTORED && e->epoch == epoch)
			return e;
	}
	return NULL;
}

static void measure_cycles(struct qualify_run *run, const struct job_history *h)
{
	unsigned from = 0;

	for (unsigned i = 0; i < run->n_cycles; i++) {
		struct qualify_cycle *c = &run->cycles[i];
		const struct history_event *restored = c->done ? measure_restore(h, c->epoch, &from) : NULL;

		if (c->epoch)
			measure_epoch(c, h);
		if (restored)
			c->restore_us = restored->total_us;
	}
}

static unsigned measure_starts(const struct job_history *h)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->n; i++)
		n += h->v[i].kind == HISTORY_STARTED;
	return n;
}

void measure_run(const struct conf *conf, struct qualify_run *run)
{
	cleanup_free struct job_history *h = xcalloc(1, sizeof(*h));
	struct view *v = view_load(conf, run->job);

	run->has_record = v->on_disk && !v->foreign;
	if (run->has_record && v->rec.used > 0)
		run->run_s = v->rec.used;
	if (run->has_record && history_load(v->store.path, geteuid() != 0, h, NULL) == 0) {
		measure_cycles(run, h);
		run->started_over = measure_starts(h) > 1;
	}
	view_free(v);
}
