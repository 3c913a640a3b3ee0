#include "agent/publish.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"

#define PUBLISH_TIMEOUT     60 /* s */
#define PUBLISH_RETRY_FIRST 10
#define PUBLISH_RETRY_MAX   600

static void publish_send(struct publish *p);

static void publish_on_retry(void *arg)
{
	publish_send(arg);
}

static void publish_retry_later(struct publish *p, const char *error)
{
	int64_t wait = PUBLISH_RETRY_FIRST << (p->tries < 6 ? p->tries : 6);

	if (p->may_be_refused)
		log_debug("last status: %s", error);
	else if (!p->tries) /* one line per outage, not per attempt */
		log_warn("the job's status cannot be shown by Slurm: %s; trying again", error);
	p->tries++;
	p->dirty = true;
	if (wait > PUBLISH_RETRY_MAX)
		wait = PUBLISH_RETRY_MAX;
	loop_timer_set(p->job->loop, &p->retry, now_us() + wait * 1000000, publish_on_retry, p);
}

static void publish_on_answer(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct publish *p = arg;

	if (!ok) {
		publish_retry_later(p, error);
		return;
	}
	if (p->tries)
		log_info("the job's status is shown by Slurm again");
	p->tries = 0;
	if (p->dirty)
		publish_send(p);
}

/* Without the job's record nothing is known of its epochs. The entry's members that describe them are left out, so that
 * fsched-slurm keeps them as they are. */
static char *publish_render_partial(const struct status *s)
{
	json_t *o = json_pack("{s:s, s:o, s:s, s:s, s:o, s:I, s:I, s:I, s:I}", "state", status_state_text(s), "error",
			      json_text(s->error), "agent", s->agent, "uuid", s->uuid, "tried", json_text(s->tried),
			      "interval", (json_int_t)s->interval, "every", (json_int_t)s->every, "failed",
			      (json_int_t)s->failed, "failed_since", (json_int_t)s->failed_since);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	return text;
}

static void publish_send(struct publish *p)
{
	struct job *j = p->job;
	cleanup_free char *text = NULL;

	p->status.every = j->every;
	p->status.steps = p->status.state == STATUS_RUNNING ? j->steps_running : 0;
	if (j->store_ok && j->rec.run > 0) {
		job_describe_epochs(j, &p->status);
		text = status_render(&p->status);
	} else {
		text = publish_render_partial(&p->status);
	}
	p->dirty = false;
	loop_timer_clear(j->loop, &p->retry);
	rpc_start(j->loop, &p->rpc, j->libexec, PUBLISH_TIMEOUT, "publish", j->task.job_id, text, publish_on_answer, p);
}

void publish_now(struct publish *p)
{
	/* in an outage the news waits for the retry, unless it is the last chance */
	if (rpc_running(&p->rpc) || (p->retry.at && !p->last_chance))
		p->dirty = true;
	else
		publish_send(p);
}

void publish_state(struct publish *p, enum status_state state)
{
	p->status.state = state;
	publish_now(p);
}

void publish_error(struct publish *p, const char *error)
{
	snprintf(p->status.error, sizeof(p->status.error), "%s", error);
	publish_now(p);
}

void publish_give_up(struct publish *p)
{
	rpc_forget(&p->rpc);
	p->dirty = false;
}

bool publish_idle(const struct publish *p)
{
	return !rpc_running(&p->rpc) && (!p->dirty || p->tries);
}
