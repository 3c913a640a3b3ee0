#include "agent/make_room.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define STEP_US 50000

/* A removal that is under way already removes what was old before. */
static void make_room_step(void *arg)
{
	struct make_room *m = arg;

	loop_timer_clear(m->job->loop, &m->timer);
	if (!proc_running(&m->job->prune) && m->removing) {
		m->done(m->arg);
		return;
	}
	if (!proc_running(&m->job->prune)) {
		m->removing = true;
		job_prune(m->job);
	}
	loop_timer_set(m->job->loop, &m->timer, now_us() + STEP_US, make_room_step, m);
}

bool make_room_begin(struct make_room *m, uint64_t bytes)
{
	struct job_record *r = &m->job->rec;
	const unsigned before = r->n_epochs;
	unsigned first, last;
	struct err err;
	char size[16];

	if (!m->job->store_ok || record_prunable_bytes(r) < bytes)
		return false;
	first = r->epochs[0].number;
	last = record_forget_oldest(r, bytes);
	if (job_save(m->job, &err) < 0) {
		/* The file still names the epochs, so they stay. job_prune() removes them after the next save. */
		log_warn("%s", err.text);
		return false;
	}
	job_log(m->job, "%u old epoch%s (%u to %u) removed to make room for %s under a quota (CheckpointQuotaPrune)",
		before - r->n_epochs, before - r->n_epochs == 1 ? "" : "s", first, last,
		format_size(bytes, size, sizeof(size)));
	m->removing = false;
	make_room_step(m);
	return true;
}

void make_room_stop(struct make_room *m)
{
	loop_timer_clear(m->job->loop, &m->timer);
}
