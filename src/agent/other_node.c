/* A job that this node cannot restore, but perhaps another: it goes back into the queue with this node excluded. How
 * many nodes have been tried is kept in its Checkpoint entry, so that it does not wander for ever; the first restart by
 * a person begins anew. */
#include "agent/agent.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"

#define MOVE_TIMEOUT 60 /* s */
#define RETRY_US     5000000
#define TRIES        6 /* of a slurmctld that does not answer */

static void ask(void *arg);

static unsigned words(const char *list)
{
	unsigned n = *list != '\0';

	for (; *list; list++)
		n += *list == ',';
	return n;
}

bool move_possible(const struct agent *a)
{
	return !a->move.refused && words(a->pub.status.tried) < a->conf.max_moves;
}

static void cannot(struct agent *a, const char *error)
{
	job_log(a, "it cannot go to another node: %s", error);
	a->move.refused = true;
	a->move.active = false;
	a->move.cannot(a);
}

static void on_moved(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;

	if (ok) {
		a->move.active = false;
		job_log(a, "given back to Slurm for another node");
		gate_answer(a, "exit");
		pod_release(a);
		end_leave(a);
	} else if (json_is_true(json_object_get(answer, "final")) || ++a->move.tries >= TRIES) {
		cannot(a, error);
	} else {
		loop_timer_set(&a->loop, &a->move.retry, now_us() + RETRY_US, ask, a);
	}
}

/* fsched-slurm does it in the order in which nothing is lost: look, requeue, exclude. */
static void ask(void *arg)
{
	struct agent *a = arg;
	json_t *o = json_pack("{s:s, s:I, s:o}", "node", a->task.node, "epoch",
			      a->start.requested == START_LATEST ? (json_int_t)-1 : (json_int_t)a->start.requested,
			      "error", json_text(a->move.why));
	cleanup_free char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	loop_timer_clear(&a->loop, &a->move.retry);
	rpc_start(&a->loop, &a->move.rpc, a->libexec, MOVE_TIMEOUT, "move", a->task.job_id, text ? text : "{}",
		  on_moved, a);
}

void move_begin(struct agent *a, const char *why, void (*cannot_move)(struct agent *))
{
	a->move.active = true;
	a->move.tries = 0;
	a->move.cannot = cannot_move;
	snprintf(a->move.why, sizeof(a->move.why), "node %.60s: ", a->task.node);
	printable(why, a->move.why + strlen(a->move.why), sizeof(a->move.why) - strlen(a->move.why));
	job_log(a, "this node cannot continue the job: %s", why);
	ask(a);
}

void move_stop(struct agent *a)
{
	rpc_forget(&a->move.rpc);
	loop_timer_clear(&a->loop, &a->move.retry);
	a->move.active = false;
}
