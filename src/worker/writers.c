/* CheckpointMaxWriters: the turn of this checkpoint among those of the node (base/turn.h), before the preflight and
 * long before the freeze: a job that waits computes.
 *
 * The wait has a bound, CheckpointWriterWait, and is no part of CheckpointTimeout or CheckpointFreezeTimeout. Behind it
 * a periodic checkpoint is left out, since the next one is due anyway, and what a person has asked for is made. Where
 * Slurm has begun to end the job there is no wait at all, and the agent can end one ("hurry"). Whoever does not wait
 * still has a ticket, so that those behind him do. */
#include "worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define POLL_US 100000

static bool writers_may_wait(const struct worker *w)
{
	static const char *const waits[] = { "periodic", "create", "vacate" };

	for (size_t i = 0; i < ARRAY_SIZE(waits); i++)
		if (!strcmp(w->req.reason, waits[i]))
			return w->conf.writer_wait > 0;
	return false;
}

static int writers_too_long(struct worker *w, unsigned ahead, struct err *err)
{
	char text[200];

	snprintf(text, sizeof(text),
		 "checkpoints of this node that come before this one: %u, CheckpointMaxWriters: %u, waited: %u s",
		 ahead, w->conf.max_writers, w->conf.writer_wait);
	if (!strcmp(w->req.reason, "periodic"))
		return err_set(err, EBUSY, "%s; it is left out", text);
	worker_warn(w, "%s; it is made all the same", text);
	return 0;
}

/* 0: the checkpoint goes on. */
static int writers_wait(struct worker *w, struct err *err)
{
	const int64_t until = now_us() + w->conf.writer_wait * INT64_C(1000000);
	bool waits = false;
	unsigned ahead = 0;
	struct err why;

	for (;;) {
		if (turn_ahead(&w->turn, &ahead, &why)) {
			worker_warn(w, "CheckpointMaxWriters is passed over: %.300s", why.text);
			return 0;
		}
		if (ahead < w->conf.max_writers || !writers_may_wait(w) || request_hurried() ||
		    !tree_is_there(w->req.init))
			return 0;
		if (now_us() >= until)
			return writers_too_long(w, ahead, err);
		if (!waits)
			event_phase("turn");
		waits = true;
		usleep(POLL_US);
	}
}

int writers_begin(struct worker *w, struct err *err)
{
	cleanup_free char *dir = xasprintf("%s/writers", w->conf.pod_dir);
	struct err why;
	int rc;

	if (!w->conf.max_writers || !w->req.job_id[0])
		return 0;
	/* A limit that cannot be kept is no reason to do without a checkpoint. */
	if (turn_take(dir, &w->turn, &why)) {
		worker_warn(w, "CheckpointMaxWriters is passed over: %.300s", why.text);
		return 0;
	}
	if (deadline_set(0, err))
		return -1;
	rc = writers_wait(w, err);
	w->began = now_us();
	if (rc)
		turn_end(&w->turn);
	return rc || deadline_set(conf_checkpoint_seconds(&w->conf), err) ? -1 : 0;
}

void writers_end(struct worker *w)
{
	turn_end(&w->turn);
}
