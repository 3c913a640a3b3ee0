#include "agent/start.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/end.h"
#include "agent/record_history.h"
#include "base/dir.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"
#include "pod/pod.h"

#define START_ASK_TIMEOUT 60 /* s */

void start_unprotected(struct agent *a, const struct err *err)
{
	if (a->start.error[0])
		return;
	snprintf(a->start.error, sizeof(a->start.error), "%.500s", err->text);
	log_error("the job runs, but cannot be checkpointed: %s", err->text);
}

/* ---- the output of the run before ---- */

static bool start_may(const struct agent *a)
{
	return a->phase == PHASE_STARTING || a->phase == PHASE_RESTORING;
}

void start_output_kept(struct agent *a, bool ok, const char *what)
{
	char clean[400];

	if (!a->start.keeping || !start_may(a))
		return;
	a->start.keeping = false;
	loop_timer_clear(&a->loop, &a->start.keep_limit);
	snprintf(clean, sizeof(clean), "%.399s", what);
	a->start.kept = true;
	a->start.append = !ok;
	if (!ok)
		snprintf(a->start.output, sizeof(a->start.output),
			 "the output of the run before could not be kept beside (%s): the new run appends to it", clean);
	else if (*clean)
		snprintf(a->start.output, sizeof(a->start.output), "the output of the run before is kept beside as %s",
			 clean);
	if (*a->start.output)
		job_log(&a->job, "%s", a->start.output);
	start_fresh(a);
}

static void start_on_keep_limit(void *arg)
{
	struct agent *a = arg;

	start_output_kept(a, false, "it took longer than CheckpointTimeout");
}

static bool start_had_epochs(const struct agent *a)
{
	return (a->job.have_record && job_has_epoch(&a->job)) || a->start.saved;
}

/* True: the script's process is doing it, and start_fresh() is called again when it has answered. */
static bool start_keep_output(struct agent *a)
{
	char text[32];

	if (a->start.kept || !a->job.task.restart_count || !start_had_epochs(a))
		return false;
	snprintf(text, sizeof(text), "keep %u", a->job.have_record ? a->job.rec.run : a->job.task.restart_count);
	if (gate_send(&a->gate, text) < 0)
		return false; /* it has ended, and so will the start of the job */
	a->start.keeping = true;
	loop_timer_set(&a->loop, &a->start.keep_limit, now_us() + (int64_t)a->job.conf.timeout * 1000000,
		       start_on_keep_limit, a);
	return true;
}

void start_fresh(struct agent *a)
{
	struct job_record *r = &a->job.rec;
	struct err err;

	if (!gate_open(&a->gate)) {
		/* the process that was to become the script has ended, so the job cannot start over here */
		end_unstarted(a, "the script's process ended while it waited");
		return;
	}
	if (start_keep_output(a))
		return;
	if (a->job.store_ok) {
		r->run = a->job.have_record ? r->run + 1 : 1;
		r->intent = INTENT_RUNNING;
		r->interval = a->job.task.interval;
		r->restart_count = a->job.task.restart_count;
		r->skipped = 0;
		r->used = 0;
		snprintf(r->host, sizeof(r->host), "%s", a->job.task.node);
		if (job_save(&a->job, &err) < 0)
			start_unprotected(a, &err);
	}
	record_history_started(&a->job, a->start.over);
	agent_enter(a, PHASE_RUNNING);
	a->publish.status.restored = 0;
	write_list_watch_start(&a->write_list, a->pod.init, a->pod.ctl.fd, true);
	step_list_start(&a->step_list, a->pod.init);
	gate_answer(&a->gate, a->job.task.truncate && !a->start.append ? "run truncate" : "run");
	job_log(&a->job, "started%s on %s", r->run > 1 ? " from the beginning" : "", a->job.task.node);
	if (a->job.task.network_warning[0])
		job_log(&a->job,
			"warning: the job uses the network of %s and not one of its own (PodNetwork = private): %s",
			a->job.task.node, a->job.task.network_warning);
	if (a->job.task.tmp_warning[0])
		job_log(&a->job,
			"warning: the job's /tmp is a directory of %s and no image (PodTmp = image), so its files have other inode "
			"numbers after a restart: %s",
			a->job.task.node, a->job.task.tmp_warning);
	if (a->job.store_ok && job_save_copies(&a->job, &err) < 0)
		start_unprotected(a, &err);
	start_service(a);
}

/* ---- the decision ---- */

/* No other node can take the job. */
static void start_stay(void *arg)
{
	struct agent *a = arg;

	if (a->start.plan.otherwise == START_HOLD) {
		end_requeue(a, REQUEUE_HELD, a->start.error[0] ? a->start.error : a->start.plan.reason);
		return;
	}
	job_log(&a->job, "the job starts over: %s", a->start.plan.reason);
	a->start.over = true;
	if (!a->start.error[0])
		snprintf(a->start.error, sizeof(a->start.error), "started over: %s", a->start.plan.reason);
	start_fresh(a);
}

static void start_elsewhere(struct agent *a)
{
	if (other_node_possible(&a->other_node, a->publish.status.tried))
		other_node_begin(&a->other_node, a->start.error[0] ? a->start.error : a->start.plan.reason,
				 a->start.requested, start_stay);
	else
		start_stay(a);
}

struct start_heard { /* what Slurm's entry says of the job, see struct start_input */
	bool saved, ended;
};

static void start_begin_restore(struct agent *a)
{
	agent_enter(a, PHASE_RESTORING);
	publish_state(&a->publish, STATUS_RESTORING);
	restore_begin(&a->restore);
}

static void start_decide_now(struct agent *a, unsigned requested, struct start_heard heard)
{
	static unsigned epochs[STORE_KEPT_MAX];
	struct start_input in = { .have_record = a->job.have_record,
				  .intent = a->job.rec.intent,
				  .requested = requested,
				  .saved = heard.saved,
				  .told = heard.ended,
				  .ended = a->job.have_record ? ended_how(a->job.rec.status) : ENDED_UNKNOWN,
				  .unusable = a->start.unusable,
				  .restart_count = a->job.task.restart_count,
				  .epochs = epochs,
				  .hold_on_failure = a->job.conf.on_restore_failure == CONF_HOLD };

	a->start.requested = requested;
	a->start.saved = heard.saved;
	for (unsigned i = 0; i < a->job.rec.n_epochs; i++)
		if (a->job.rec.epochs[i].run == a->job.rec.run)
			epochs[in.n_epochs++] = a->job.rec.epochs[i].number;
	start_decide(&in, &a->start.plan);
	if (a->job.task.restart_count)
		log_info("restart %u: %s", a->job.task.restart_count, a->start.plan.reason);
	switch (a->start.plan.action) {
	case START_FRESH: start_fresh(a); break;
	case START_RESTORE: start_begin_restore(a); break;
	case START_HOLD: end_requeue(a, REQUEUE_HELD, a->start.plan.reason); break;
	case START_ELSEWHERE: start_elsewhere(a); break;
	case START_END: end_as_before(a); break;
	}
}

static void start_on_asked(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;
	json_int_t epoch = json_integer_value(json_object_get(answer, "epoch"));
	bool vacated = json_is_true(json_object_get(answer, "vacated"));
	const struct start_heard heard = { json_is_true(json_object_get(answer, "saved")),
					   json_is_true(json_object_get(answer, "ended")) };
	const char *tried = json_string_value(json_object_get(answer, "tried"));

	if (!ok)
		job_log(&a->job, "Slurm cannot be asked which epoch to restore (%s); the newest is taken", error);
	/* a restart by a person makes all nodes candidates again */
	if (tried && (epoch == 0 || json_is_true(json_object_get(answer, "moved"))))
		snprintf(a->publish.status.tried, sizeof(a->publish.status.tried), "%s", tried);
	if (ok && epoch > 0 && epoch < INT32_MAX)
		start_decide_now(a, (unsigned)epoch, heard);
	else if (epoch == -2)
		start_decide_now(a, START_BEGINNING, heard);
	else if (epoch < 0 || (!a->job.have_record && (vacated || !ok)))
		/* a vacated job whose record cannot be seen here must not start over */
		start_decide_now(a, START_LATEST, heard);
	else
		start_decide_now(a, 0, heard);
}

static void start_ask_epoch(struct agent *a)
{
	rpc_start(&a->loop, &a->start.ask, a->job.libexec, START_ASK_TIMEOUT, "take-restart-epoch", a->job.task.job_id,
		  NULL, start_on_asked, a);
}

/* Reads the record as the holder before this agent left it. */
static int start_open_record(struct agent *a)
{
	struct err err = { 0 };

	if (job_open_store(&a->job, &err) == 0)
		return 0;
	snprintf(a->start.error, sizeof(a->start.error), "the job's checkpoint record cannot be read: %.400s", err.text);
	a->start.unusable = true;
	return -1;
}

/* While this start of the job waited for the lease, a later one has taken the job, or the job has ended. Then this
 * start must not take the request of a person from Slurm's entry, nor hold or move the job. */
static bool start_is_over(const struct agent *a)
{
	return a->phase != PHASE_STARTING;
}

void start_with_lease(struct agent *a)
{
	if (start_is_over(a))
		return;
	start_open_record(a); /* without it, Slurm's own entry tells what must not happen */
	start_ask_epoch(a);
}

void start_without_lease(struct agent *a, const char *why)
{
	if (start_is_over(a))
		return;
	snprintf(a->start.error, sizeof(a->start.error),
		 "the job's checkpoint directory cannot be used on this node: %.400s", why);
	log_error("%s", a->start.error);
	a->start.unusable = true;
	start_ask_epoch(a);
}

static void start_begin_decision(struct agent *a)
{
	struct err err = { 0 };

	if (a->job.task.restart_count > 0) {
		if (job_open_dir(&a->job, &err) < 0)
			start_without_lease(a, err.text);
		else
			lease_watch_acquire(&a->lease);
	} else if (job_open_store(&a->job, &err) < 0) {
		start_unprotected(a, &err);
		start_fresh(a);
	} else if (!a->job.have_record) {
		start_decide_now(a, 0, (struct start_heard){ 0 });
	} else {
		start_ask_epoch(a);
	}
}

/* Slurm has put only the agent into the job's cgroups, and has done so by the time the script's process is ready. */
static void start_join_cgroups(struct agent *a)
{
	const pid_t pids[] = { a->job.task.init_pid, a->job.task.leader_pid, a->job.task.script_pid };
	struct err err;

	if (pod_join_my_cgroups(pids, ARRAY_SIZE(pids), &err) < 0)
		log_error("the job's processes cannot be put under Slurm's limits: %s", err.text);
}

void start_check(struct agent *a)
{
	if (!a->start.up || !a->start.ready || a->start.deciding || a->phase != PHASE_STARTING)
		return;
	a->start.deciding = true;
	start_join_cgroups(a);
	start_begin_decision(a);
}

/* ---- what begins with the script ---- */

/* Removes the directories of pods of this job whose agent was killed; their names begin with the job's id. */
static int start_sweep_main(void *arg, int out)
{
	const struct agent *a = arg;
	const char *own = strrchr(a->job.task.pod_dir, '/');
	char base[4096], prefix[16];
	const struct dirent *e;

	if (!own || own == a->job.task.pod_dir)
		return 0;
	snprintf(base, sizeof(base), "%.*s", (int)(own - a->job.task.pod_dir), a->job.task.pod_dir);
	snprintf(prefix, sizeof(prefix), "%u.", a->job.task.job_id);
	own++;
	cleanup_dir DIR *d = opendir(base);
	while (d && dir_next(d, &e) > 0) {
		char path[4400];

		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || strncmp(e->d_name, own, strlen(own)) == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		pod_cleanup(path);
	}
	return 0;
}

static void start_sweep(struct agent *a)
{
	struct proc_spec s = { .main = start_sweep_main, .main_arg = a, .keep_fd = -1, .arg = a };

	if (a->job.task.restart_count > 0)
		proc_start(&a->loop, &a->start.sweep, &s, NULL);
}

void start_service(struct agent *a)
{
	struct status *s = &a->publish.status;

	a->start.ran = true;
	job_begin_run(&a->job);
	s->state = STATUS_RUNNING;
	if (a->start.error[0] || a->start.output[0])
		snprintf(s->error, sizeof(s->error), "%.*s%s%.*s", a->start.error[0] ? 120 : 250, a->start.output,
			 a->start.output[0] && a->start.error[0] ? "; " : "", a->start.output[0] ? 130 : 250,
			 a->start.error);
	for (int sig = 1; sig < NSIG; sig++)
		if (sigismember(&a->start.pending, sig) == 1)
			pod_watch_deliver(&a->pod, sig, SIG_SCOPE_SCRIPT);
	sigemptyset(&a->start.pending);
	lease_watch_start(&a->lease);
	sched_start(&a->sched);
	notice_start(&a->notice);
	requests_start(&a->requests); /* publishes the status when it knows the port */
	start_sweep(a);
}
