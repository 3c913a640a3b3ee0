/* restart: notes the epoch for the agent, releases the job, and waits until it runs again. */
#include "cli/user/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"

#define RELEASE_WAIT_US    180000000 /* us to wait for a job that is still completing */
#define HELD_REASON_US     5000000   /* us to wait for the reason why a job is held again */
#define COMPLETING_WAIT_US 60000000  /* the same, us, while its last run is completing */
#define PATIENCE_US        30000000 /* us to wait for a job that waits for resources if standard error is no terminal */

/* Whether the epoch is in a list "1,2,3". */
static bool is_kept(const char *list, unsigned epoch)
{
	while (*list) {
		char *end;

		if (strtoul(list, &end, 10) == epoch && end != list)
			return true;
		end += strcspn(end, ",");
		list = *end ? end + 1 : end;
	}
	return false;
}

static int restart_check_epoch(const struct request *r, const struct target *t, struct err *err)
{
	if (!t->status.epoch && strstr(t->status.error, "fsched prune"))
		return err_set(err, 0, "cannot be continued: %s; cancel it and submit it again", t->status.error);
	if (!t->status.epoch)
		return err_set(err, 0,
			       "has no epoch of its present run; `scontrol release %s' starts it from the beginning",
			       t->job.label);
	if (r->epoch && !is_kept(t->status.kept, r->epoch))
		return err_set(err, 0, "epoch %u is not kept; it has %s", r->epoch,
			       *t->status.kept ? t->status.kept : "none");
	return 0;
}

static int restart_check_state(const struct target *t, struct err *err)
{
	const struct slurm_job *j = &t->job;
	char next[48];

	if (j->finished && t->status.epoch)
		return err_set(
			err, 0,
			"has ended (%s); to continue it from epoch %u, first bring it back into the queue: scontrol requeuehold %s",
			j->state, t->status.epoch, j->label);
	if (j->finished)
		return err_set(err, 0, "has ended (%s) and cannot be restarted", j->state);
	if (j->running || j->suspended)
		return err_set(err, 0, "is %s; only a vacated job can be restarted",
			       j->running ? "running" : "suspended");
	if (!j->pending)
		return err_set(err, 0, "is in state %s and cannot be restarted", j->state);
	if (!j->held && t->status.epoch)
		return err_set(
			err, 0,
			"is not held but waits to start (%s), when it will %s; to choose an epoch hold it first: scontrol hold %s",
			*j->reason ? j->reason : "no reason given", target_next_start(t, next, sizeof(next)), j->label);
	if (!j->held && j->restart_count)
		return err_set(err, 0,
			       "is pending and has no epoch of its present run: it will start from the beginning");
	if (!j->held)
		return err_set(err, 0, "is pending and has never run; there is nothing to restart");
	return 0;
}

static int restart_check(const struct request *r, const struct target *t, struct err *err)
{
	if (target_check_enabled(t, err) < 0 || target_check_user(r, t, err) < 0 || restart_check_state(t, err) < 0)
		return -1;
	return t->job.completing ? 0 : restart_check_epoch(r, t, err);
}

/* Notes the epoch in the Comment for the agent. Without the note a job that was requeued and held by other means would
 * start from the beginning, and so would a vacated job on a node that does not see its epochs. */
static int restart_note_epoch(const struct request *r, struct target *t, struct err *err)
{
	unsigned epoch = r->epoch ? r->epoch : RPC_EPOCH_LATEST;

	if (rpc_comment_epoch(t->job.comment) == epoch)
		return 0;
	return rpc_request_epoch(t->id, epoch, err);
}

/* slurmctld overwrites a begin time that is set while the job is completing, so this waits until it has completed.
 * Until then its agent may also publish another epoch: that of the vacate which has just requeued the job. */
static int restart_release(const struct request *r, struct target *t, struct err *err)
{
	int64_t until = now_us() + (r->timeout_s ? r->timeout_s * INT64_C(1000000) : RELEASE_WAIT_US);
	unsigned round = 0;

	for (;;) {
		if (target_load(t, err) < 0)
			return -1;
		if (!t->job.completing) {
			if (restart_check_epoch(r, t, err) < 0 || restart_note_epoch(r, t, err) < 0)
				return -1;
			if (rpc_release(t->id, err) == 0)
				return 0;
			if (err->num != EAGAIN)
				return -1;
		}
		if (now_us() > until)
			return err_set(err, ETIMEDOUT, "its last run is still completing on node %s",
				       *t->job.batch_host ? t->job.batch_host : "?");
		progress_doing(&t->progress, "waiting for the last run to complete");
		target_pause(t, &round);
		if (restart_check_state(t, err) < 0)
			return -1;
	}
}

static void show_doing(struct target *t)
{
	/* for a condition that may pass by itself */
	const bool waits = *t->status.error && t->status.state == STATUS_RESTORING;
	char text[240];

	if (t->job.pending && t->job.held)
		snprintf(text, sizeof(text), "held again, waiting for the reason");
	else if (t->job.pending)
		snprintf(text, sizeof(text), "released, waiting to start (%.40s)",
			 *t->job.reason ? t->job.reason : "soon");
	else
		snprintf(text, sizeof(text), "restoring on node %.40s%s%.160s", t->job.batch_host, waits ? ": " : "",
			 waits ? t->status.error : "");
	progress_doing(&t->progress, text);
}

enum outcome { WAIT, RESTORED, HELD_AGAIN, STARTED_OVER, ENDED };

/* Whether a job that has been held since then will not be changed by its agent any more. */
static bool hold_is_final(const struct target *t, int64_t held_since)
{
	return now_us() - held_since > (t->job.completing ? COMPLETING_WAIT_US : HELD_REASON_US);
}

/* before: the AdminComment at the release; as long as it is unchanged, the new agent has published nothing. final: the
 * state of a held job will not change any more. */
static enum outcome restart_judge(const struct target *t, const char *before, bool seen_running, bool final)
{
	const struct slurm_job *j = &t->job;
	const enum status_state state = t->status.state;

	if (j->running && state == STATUS_RUNNING && strcmp(j->admin_comment, before) != 0)
		return t->status.restored ? RESTORED : STARTED_OVER;
	/* while its last run is completing, the agent may still publish the reason */
	if (j->pending && j->held)
		return final || (!j->completing && strcmp(j->admin_comment, before) != 0) ? HELD_AGAIN : WAIT;
	if (j->finished && !j->completing)
		return t->status.restored && (seen_running || state == STATUS_ENDED) ? RESTORED : ENDED;
	return WAIT;
}

/* Writes to buf what a person can do about a job that is held again. */
static void restart_next_step(const struct target *t, unsigned tried, char *buf, size_t len)
{
	if (strchr(t->status.kept, ','))
		snprintf(buf, len, "another epoch: scontrol checkpoint restart %s --epoch N; kept are %s", t->job.label,
			 t->status.kept);
	else if (is_kept(t->status.kept, tried) || !t->status.epoch)
		snprintf(buf, len, "try again when the reason is gone: scontrol checkpoint restart %s", t->job.label);
	else
		snprintf(buf, len, "it has epoch %u: scontrol checkpoint restart %s", t->status.epoch, t->job.label);
}

static int restart_report(const struct request *r, struct target *t, enum outcome o, unsigned epoch, const char *node)
{
	char shown[sizeof(t->status.error)], next[300];

	printable(t->status.error, shown, sizeof(shown));
	switch (o) {
	case RESTORED:
		target_say(r, t, "restored from epoch %u on node %s%s%s", t->status.restored, *node ? node : "?",
			   t->job.finished ? "; it has ended since: " : "", t->job.finished ? t->job.state : "");
		return CLI_OK;
	case HELD_AGAIN:
		restart_next_step(t, epoch, next, sizeof(next));
		return target_fail(t, "could not be restored%s%s: %s; it is held (%s)", *node ? " on node " : "", node,
				   *shown ? shown : "it was held again before it started", next);
	case STARTED_OVER:
		return target_fail(t, "runs on node %s, but from the beginning%s%s", node, *shown ? ": " : "", shown);
	default:
		return target_fail(t, "ended (%s) without having been restored%s%s", t->job.state, *shown ? ": " : "",
				   shown);
	}
}

static int restart_later(const struct request *r, struct target *t, unsigned epoch)
{
	if (t->job.pending)
		target_say(r, t, "released, waits to start (reason %s); it will continue from epoch %u",
			   *t->job.reason ? t->job.reason : "none", epoch);
	else
		target_say(r, t,
			   "started on node %s and is being restored from epoch %u; check with: scontrol show job %s | grep Checkpoint",
			   t->job.batch_host, epoch, t->job.label);
	return CLI_LATER;
}

/* Waits until the job is restored, held again, or ended. Waits for resources without limit only at a terminal, for a
 * restore always. */
static int restart_watch(const struct request *r, struct target *t, unsigned epoch)
{
	cleanup_free char *before = xstrdup(t->job.admin_comment);
	int64_t patience = r->timeout_s ? r->timeout_s * INT64_C(1000000) : PATIENCE_US;
	bool endless = !r->timeout_s && t->progress.on;
	char node[sizeof(t->job.batch_host)] = "";
	int64_t began = now_us(), held = 0;
	unsigned round = 0;
	bool ran = false, late;
	struct err err;

	for (;;) {
		enum outcome o;

		if (target_load(t, &err) < 0)
			return target_fail(t, "released; what became of it is not known: %s", err.text);
		if (*t->job.batch_host)
			memcpy(node, t->job.batch_host, sizeof(node));
		if (t->job.running && !ran) {
			ran = true;
			round = 0;
		}
		if (!t->job.pending || !t->job.held)
			held = 0;
		else if (!held)
			held = now_us();
		late = !endless && now_us() - began > patience;
		o = restart_judge(t, before, ran, held && (hold_is_final(t, held) || (late && r->timeout_s)));
		if (o != WAIT)
			return restart_report(r, t, o, epoch, node);
		if (late && !held && (r->timeout_s || t->job.pending))
			return restart_later(r, t, epoch);
		show_doing(t);
		target_pause(t, &round);
	}
}

int op_restart(const struct request *r, struct target *t)
{
	unsigned epoch;
	struct err err;

	if (restart_check(r, t, &err) < 0)
		return target_fail(t, "%s", err.text);
	if (restart_release(r, t, &err) < 0) {
		/* keeps the note if somebody else has released the job meanwhile: its start needs it */
		if (target_load(t, NULL) == 0 && t->job.pending && t->job.held)
			rpc_request_epoch(t->id, 0, NULL);
		return target_fail(t, "%s; it stays as it is", err.text);
	}
	epoch = r->epoch ? r->epoch : t->status.epoch;
	if (!r->wait) {
		target_say(r, t, "released; it will continue from epoch %u", epoch);
		return CLI_LATER;
	}
	target_goes_on(t, "restart");
	return restart_watch(r, t, epoch);
}
