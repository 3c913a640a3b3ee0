#include "agent/grace.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"

#define GRACE_ASK_LIMIT INT64_C(3000000) /* us for which a script waits for its SIGTERM if Slurm does not answer */
#define GRACE_MARGIN    1                /* s that the end of the pod takes before Slurm's SIGKILL */

static void grace_pass_on(struct agent *a)
{
	struct grace *g = &a->grace;

	loop_timer_clear(&a->loop, &g->limit);
	g->saving = false;
	if (!g->withheld)
		return;
	g->withheld = false;
	if (a->phase == PHASE_RUNNING)
		pod_watch_deliver(&a->pod, SIGTERM, g->scope);
}

static void grace_on_limit(void *arg)
{
	struct agent *a = arg;

	log_warn("Slurm does not say in time why it ends the job; the script gets its SIGTERM");
	grace_pass_on(a);
}

static bool grace_possible(const struct agent *a)
{
	return a->phase == PHASE_RUNNING && a->grace.withheld && !*a->checkpoint.lost && a->job.store_ok &&
	       a->job.conf.criu_enabled && !(a->checkpoint.op.active && op_leaves(a->checkpoint.op.kind));
}

static void grace_act(struct agent *a)
{
	struct grace *g = &a->grace;
	const struct grace_input in = { .meaning = g->meaning,
					.completing = g->completing,
					.possible = grace_possible(a),
					.left = g->kill_wait - (now_us() - g->since) / 1000000 - GRACE_MARGIN,
					.need = grace_need(a->publish.status.total_us) };

	loop_timer_clear(&a->loop, &g->limit);
	if (grace_decide(&in) == GRACE_PASS_ON) {
		grace_pass_on(a);
		return;
	}
	job_log(&a->job, "Slurm has requeued the job and kills it in %lld s: it is saved in that time",
		(long long)in.left);
	g->saving = true;
	sched_stop(&a->sched);
	notice_stop(&a->notice);
	checkpoint_request(&a->checkpoint, OP_EVICT, NULL);
}

void grace_begin(struct agent *a)
{
	if (a->grace.saving)
		return;
	a->grace.since = now_us();
	a->grace.known = false;
}

bool grace_withholds(struct agent *a, int sig, enum sig_scope scope)
{
	struct grace *g = &a->grace;

	if (sig != SIGTERM || scope == SIG_SCOPE_ALL)
		return false;
	if (g->withheld)
		return true;
	g->withheld = true;
	g->scope = scope;
	if (!grace_possible(a)) {
		g->withheld = false;
		return false;
	}
	if (g->known)
		grace_act(a);
	else
		loop_timer_set(&a->loop, &g->limit, now_us() + GRACE_ASK_LIMIT, grace_on_limit, a);
	return true;
}

void grace_learn(struct agent *a, enum end_meaning meaning, const struct end_input *in, int64_t kill_wait)
{
	struct grace *g = &a->grace;

	if (g->saving)
		return;
	g->known = true;
	g->meaning = meaning;
	g->completing = in->completing;
	g->preempted = in->preempted;
	g->kill_wait = kill_wait;
	if (g->withheld)
		grace_act(a);
}

void grace_check(struct agent *a)
{
	if (a->grace.saving && (a->phase != PHASE_RUNNING || !checkpoint_has(&a->checkpoint, OP_EVICT)))
		grace_pass_on(a);
}
