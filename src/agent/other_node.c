#include "agent/other_node.h"

#include <stdio.h>
#include <string.h>

#include "agent/record_history.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"

#define OTHER_NODE_TIMEOUT  60 /* s */
#define OTHER_NODE_RETRY_US 5000000
#define OTHER_NODE_TRIES    6 /* of a slurmctld that does not answer */

static void other_node_ask(void *arg);

static unsigned other_node_count(const char *list)
{
	unsigned n = *list != '\0';

	for (; *list; list++)
		n += *list == ',';
	return n;
}

bool other_node_possible(const struct other_node *o, const char *tried)
{
	return !o->refused && other_node_count(tried) < o->job->conf.max_moves;
}

static void other_node_on_answer(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct other_node *o = arg;

	if (ok) {
		o->active = false;
		job_log(o->job, "given back to Slurm for another node");
		record_history_moved(o->job, o->why);
		o->done(o->arg);
	} else if (json_is_true(json_object_get(answer, "final")) || ++o->tries >= OTHER_NODE_TRIES) {
		job_log(o->job, "it cannot go to another node: %s", error);
		o->refused = true;
		o->active = false;
		o->cannot(o->arg);
	} else {
		loop_timer_set(o->job->loop, &o->retry, now_us() + OTHER_NODE_RETRY_US, other_node_ask, o);
	}
}

/* fsched-slurm looks, requeues and excludes in the order in which nothing is lost. */
static void other_node_ask(void *arg)
{
	struct other_node *o = arg;
	const struct job *j = o->job;
	json_t *request = json_pack("{s:s, s:I, s:o}", "node", j->task.node, "epoch",
				    o->epoch == START_LATEST      ? (json_int_t)-1
				    : o->epoch == START_BEGINNING ? (json_int_t)-2
								  : (json_int_t)o->epoch,
				    "error", json_text(o->why));
	cleanup_free char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

	json_decref(request);
	loop_timer_clear(j->loop, &o->retry);
	rpc_start(j->loop, &o->rpc, j->libexec, OTHER_NODE_TIMEOUT, "move", j->task.job_id, text ? text : "{}",
		  other_node_on_answer, o);
}

void other_node_begin(struct other_node *o, const char *why, unsigned epoch, void (*cannot)(void *arg))
{
	o->active = true;
	o->tries = 0;
	o->epoch = epoch;
	o->cannot = cannot;
	snprintf(o->why, sizeof(o->why), "node %.60s: ", o->job->task.node);
	printable(why, o->why + strlen(o->why), sizeof(o->why) - strlen(o->why));
	job_log(o->job, "this node cannot continue the job: %s", why);
	other_node_ask(o);
}

void other_node_stop(struct other_node *o)
{
	rpc_forget(&o->rpc);
	loop_timer_clear(o->job->loop, &o->retry);
	o->active = false;
}
