/* The job's Checkpoint entry in AdminComment: at most one update per event, only the newest state, later if slurmctld
 * is away. */
#include "agent/agent.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"

#define PUBLISH_TIMEOUT 60 /* s */
#define RETRY_FIRST     10
#define RETRY_MAX       600

static void start(struct agent *a);

static void on_retry(void *arg)
{
	start(arg);
}

static void on_done(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;

	if (ok) {
		if (a->pub.tries)
			log_info("the job's status is shown by Slurm again");
		a->pub.tries = 0;
		if (a->pub.dirty)
			start(a);
	} else {
		int64_t wait = RETRY_FIRST << (a->pub.tries < 6 ? a->pub.tries : 6);

		if (a->phase == PHASE_ENDING)
			log_debug("last status: %s", error); /* Slurm takes none for a cancelled job */
		else if (!a->pub.tries)                      /* one line per outage, not per attempt */
			log_warn("the job's status cannot be shown by Slurm: %s; trying again", error);
		a->pub.tries++;
		a->pub.dirty = true;
		if (wait > RETRY_MAX)
			wait = RETRY_MAX;
		loop_timer_set(&a->loop, &a->pub.retry, now_us() + wait * 1000000, on_retry, a);
	}
	end_check(a);
}

/* Without the job's record nothing is known of its epochs: what is shown of them must stay. */
static char *render_partial(const struct status *s)
{
	json_t *o = json_pack("{s:s, s:o, s:s, s:s, s:o, s:I, s:I, s:I}", "state", s->state, "error",
			      json_text(s->error), "agent", s->agent, "uuid", s->uuid, "tried", json_text(s->tried),
			      "interval", (json_int_t)s->interval, "failed", (json_int_t)s->failed, "failed_since",
			      (json_int_t)s->failed_since);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	return text;
}

static void start(struct agent *a)
{
	cleanup_free char *text = NULL;

	if (a->store_ok && a->rec.run > 0) {
		job_describe_epochs(a, &a->pub.status);
		text = status_render(&a->pub.status);
	} else {
		text = render_partial(&a->pub.status);
	}
	a->pub.dirty = false;
	loop_timer_clear(&a->loop, &a->pub.retry);
	rpc_start(&a->loop, &a->pub.rpc, a->libexec, PUBLISH_TIMEOUT, "publish", a->task.job_id, text, on_done, a);
}

void publish_now(struct agent *a)
{
	if (rpc_running(&a->pub.rpc)) {
		a->pub.dirty = true;
		return;
	}
	/* in an outage the news waits for the retry, unless it is the last chance */
	if (a->pub.retry.at && a->phase != PHASE_ENDING && a->phase != PHASE_LEAVING) {
		a->pub.dirty = true;
		return;
	}
	start(a);
}

void publish_state(struct agent *a, const char *state)
{
	snprintf(a->pub.status.state, sizeof(a->pub.status.state), "%s", state);
	publish_now(a);
}

void publish_error(struct agent *a, const char *error)
{
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "%s", error);
	publish_now(a);
}

bool publish_idle(const struct agent *a)
{
	return !rpc_running(&a->pub.rpc) && (!a->pub.dirty || a->pub.tries);
}
