#include "agent/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/record_history.h"
#include "agent/worker_event.h"
#include "agent/worker_request.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"
#include "criu/criu.h"
#include "policy/obstacle.h"
#include "pod/pod.h"

#define RESTORE_MARGIN 30 /* s behind CheckpointTimeout, which the worker keeps itself */

static void restore_attempt(struct restore *r);
static void restore_on_again(void *arg);

static void restore_close_ctl(struct restore *r)
{
	loop_remove(r->job->loop, &r->ctl);
	cleanup_closep(&r->ctl_fd);
	r->ctl_fd = -1;
}

static void restore_discard(struct restore *r)
{
	proc_forget(&r->worker);
	write_list_watch_stop(r->write_list);
	loop_timer_clear(r->job->loop, &r->limit);
	/* fsched-init ends with its control socket, and the kernel kills its pod */
	restore_close_ctl(r);
	if (r->init > 0)
		pod_kill(r->init, 5000, NULL);
	r->init = 0;
	if (r->dir[0])
		pod_cleanup(r->dir);
	r->dir[0] = '\0';
}

static enum failure_cause restore_failure_cause(const struct restore *r)
{
	static const enum failure_cause causes[] = {
		[OBSTACLE_UNKNOWN] = FAILED_EPOCH, [OBSTACLE_PASSES] = FAILED_PASSES, [OBSTACLE_NODE] = FAILED_NODE,
		[OBSTACLE_EPOCH] = FAILED_EPOCH,   [OBSTACLE_JOB] = FAILED_JOB,       [OBSTACLE_GIVEN] = FAILED_GIVEN,
	};
	enum obstacle_class class = obstacle_class(r->error);

	return class == OBSTACLE_UNKNOWN && r->node_blamed ? FAILED_NODE : causes[class];
}

static int64_t restore_retry_left(const struct restore *r)
{
	return r->trouble + (int64_t)r->job->conf.restore_retry * 1000000 - now_us();
}

/* "epoch 4: chunk digest mismatch; epoch 3: …", newest first, as far as there is room. */
static void restore_remember(struct restore *r)
{
	size_t n = strlen(r->history), room = sizeof(r->history) - n;

	/* The precision says to gcc that the cut is meant: 16 warns of it without. */
	snprintf(r->history + n, room, "%s%.*s", n ? "; " : "", (int)room, r->error);
}

/* The reason of the failure may be gone by then. The last attempt is made when the time is over. */
static void restore_try_again(struct restore *r)
{
	int64_t pause = (int64_t)failure_pause(r->tries++) * 1000000, left = restore_retry_left(r);
	char wait[24], total[24];

	pause = pause < left ? pause : left;
	if (r->tries == 1)
		job_log(r->job, "%s; this passes by itself: it is tried again for %s", r->error,
			format_duration(left, total, sizeof(total)));
	snprintf(r->publish->status.error, sizeof(r->publish->status.error),
		 "waits, next attempt in %s, for %s at most: %.180s", format_duration(pause, wait, sizeof(wait)),
		 format_duration(left, total, sizeof(total)), r->error);
	publish_now(r->publish);
	loop_timer_set(r->job->loop, &r->again, now_us() + pause, restore_on_again, r);
}

void restore_decide(struct restore *r)
{
	struct failure_input in = {
		.cause = restore_failure_cause(r),
		.more_epochs = r->next + 1 < r->plan->n_epochs,
		.may_move = r->may_move(r->arg),
		.otherwise = r->plan->otherwise,
	};
	enum failure_step step;
	char why[600];

	if (in.cause == FAILED_PASSES && !r->trouble)
		r->trouble = now_us();
	in.time_left = in.cause == FAILED_PASSES && restore_retry_left(r) > 0;
	step = failure_decide(&in);
	if (step != FAILURE_AGAIN && !r->told) {
		restore_remember(r);
		job_log(r->job, "%s", r->error);
		record_history_restore_failed(r->job, r->epoch, r->error);
		r->told = true;
	}
	switch (step) {
	case FAILURE_AGAIN: restore_try_again(r); break;
	case FAILURE_NEXT_EPOCH:
		r->next++;
		restore_attempt(r);
		break;
	case FAILURE_ELSEWHERE: r->failed(r->arg, step, r->error); break;
	case FAILURE_FRESH:
		job_log(r->job, "no epoch can be restored, the job starts over");
		r->failed(r->arg, step, r->history);
		break;
	case FAILURE_HOLD:
		snprintf(why, sizeof(why), "%s; its epochs are kept", r->history);
		r->failed(r->arg, step, why);
		break;
	}
}

/* r->error says why, or is "" if that is not known. */
static void restore_failed(struct restore *r)
{
	char why[sizeof(r->error)];

	memcpy(why, r->error, sizeof(why));
	if (!why[0])
		snprintf(why, sizeof(why), "the restored processes died at once");
	snprintf(r->error, sizeof(r->error), "epoch %u cannot be restored: %.440s", r->epoch, why);
	restore_discard(r);
	/* Slurm's SIGTERM to all processes reaches half-restored ones too. If it has come, the owner first finds out
	 * what it means. */
	if (!r->slurm_ends(r->arg))
		restore_decide(r);
	else
		r->waits = true;
}

void restore_go_on(struct restore *r)
{
	if (r->waits) {
		r->waits = false;
		restore_decide(r);
	}
}

/* Epochs newer than the restored one do not belong to this run, whose files will differ from what they were then. They
 * stay on disk but are no candidates any more. */
static void restore_leave_history(struct restore *r)
{
	struct job_record *rec = &r->job->rec;
	unsigned old = rec->run;

	if (!rec->n_epochs || rec->epochs[rec->n_epochs - 1].number == r->epoch)
		return;
	rec->run++;
	for (unsigned i = 0; i < rec->n_epochs && rec->epochs[i].number <= r->epoch; i++)
		if (rec->epochs[i].run == old)
			rec->epochs[i].run = rec->run;
}

static void restore_succeeded(struct restore *r)
{
	struct job_record *rec = &r->job->rec;
	const int64_t took_us = now_us() - r->began;
	char took[24];
	struct err err;

	loop_timer_clear(r->job->loop, &r->limit);
	r->take_over(r->arg, r->init, steal_fd(&r->ctl_fd), r->dir);
	restore_leave_history(r);
	rec->intent = INTENT_RUNNING;
	rec->restart_count = r->job->task.restart_count;
	snprintf(rec->host, sizeof(rec->host), "%s", r->job->task.node);
	if (job_save(r->job, &err) < 0) {
		log_error("%s", err.text);
		snprintf(r->note, sizeof(r->note), "%.500s", err.text);
	}
	job_log(r->job, "restored from epoch %u on %s in %s", r->epoch, r->job->task.node,
		format_duration(took_us, took, sizeof(took)));
	record_history_restored(r->job, r->epoch, took_us, r->job->last_seen);
	r->job->copies_saved = true; /* as they were when the job began */
	r->publish->status.restored = r->epoch;
	r->publish->status.error[0] = '\0';
	if (r->next > 0) /* a newer one could not be */
		snprintf(r->note, sizeof(r->note), "restored from epoch %u; %.400s", r->epoch, r->history);
	r->succeeded(r->arg);
}

static void restore_check_success(struct restore *r)
{
	if (r->restored && r->worker_ok && r->init > 0 && !proc_running(&r->worker))
		restore_succeeded(r);
}

/* what: init's words, which are used if criu's log gives no reason. */
static void restore_explain_failure(struct restore *r, const char *what)
{
	char log[400];

	criu_log_explain(r->job->store.dirfd, "restore.log", log, sizeof(log));
	snprintf(r->error, sizeof(r->error), "%.350s%s", log[0] ? log : what,
		 r->node_differs ? " (this node differs from the one where it was saved, see checkpoint.log)" : "");
	r->node_blamed = r->node_differs;
}

static void restore_on_ctl(void *arg)
{
	struct restore *r = arg;
	char msg[512];
	int rc = pod_recv(r->ctl_fd, msg, sizeof(msg));

	if (rc < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (rc > 0 && strncmp(msg, "restored", 8) == 0) {
		r->restored = true;
		/* Further messages are about the job, which runs again. They are read when the pod has been adopted. */
		loop_remove(r->job->loop, &r->ctl);
		restore_check_success(r);
	} else if (rc > 0 && strncmp(msg, "failed ", 7) == 0) {
		restore_explain_failure(r, msg + 7);
	} else if (rc <= 0) {
		/* a worker that still runs will say why */
		restore_close_ctl(r);
		if (!proc_running(&r->worker))
			restore_failed(r);
	}
}

static void restore_take_result(struct restore *r, const json_t *o)
{
	const char *error = json_string_value(json_object_get(o, "error"));
	const json_t *w;
	size_t i;

	r->worker_ok = json_is_true(json_object_get(o, "ok"));
	r->node_blamed = json_is_true(json_object_get(o, "node"));
	r->node_differs = json_is_true(json_object_get(o, "differs"));
	if (error)
		snprintf(r->error, sizeof(r->error), "%.500s", error);
	json_array_foreach(json_object_get(o, "warnings"), i, w)
		if (json_is_string(w))
			job_log(r->job, "restore of epoch %u: warning: %s", r->epoch, json_string_value(w));
}

static void restore_on_line(void *arg, char *line)
{
	struct restore *r = arg;
	struct worker_event e;

	worker_event_parse(line, &e);
	if (e.kind == WORKER_EVENT_POD) {
		/* the processes of the pod do not run yet */
		r->init = e.init;
		write_list_watch_start(r->write_list, r->init, r->ctl_fd, false);
	} else if (e.kind == WORKER_EVENT_RESULT) {
		restore_take_result(r, e.o);
	}
	worker_event_free(&e);
}

static void restore_on_worker_end(void *arg, int status)
{
	struct restore *r = arg;
	char *error = r->error;
	size_t len = sizeof(r->error);

	if (r->worker_ok && r->init > 0) {
		if (r->restored)
			restore_succeeded(r);
		else if (r->ctl_fd < 0)
			restore_failed(r);
		return; /* otherwise criu is still at work in the pod */
	}
	if (!error[0] && r->worker.timed_out)
		snprintf(error, len, "it took longer than CheckpointTimeout (%u s)", r->job->conf.timeout);
	else if (!error[0] && WIFSIGNALED(status))
		snprintf(error, len, "the restore worker was killed by signal %d", WTERMSIG(status));
	else if (!error[0])
		snprintf(error, len, "the restore worker ended with status %d and gave no reason", WEXITSTATUS(status));
	restore_failed(r);
}

static void restore_on_limit(void *arg)
{
	struct restore *r = arg;

	snprintf(r->error, sizeof(r->error), "it took longer than CheckpointTimeout (%u s)", r->job->conf.timeout);
	restore_failed(r);
}

static int restore_start_worker(struct restore *r, int init_ctl, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-worker", r->job->libexec), *text = NULL;
	char arg1[] = "restore";
	char *argv[] = { path, arg1, NULL };
	struct proc_spec s = {
		.argv = argv, .keep_fd = init_ctl, .on_line = restore_on_line, .on_end = restore_on_worker_end, .arg = r
	};
	json_t *o = worker_request(r->job);

	json_object_set_new(o, "epoch", json_integer(r->epoch));
	json_set_name(o, "pod_dir", r->dir);
	json_object_set_new(o, "ctl_fd", json_integer(init_ctl));
	text = worker_request_text(o);
	s.request = text;
	return proc_start(r->job->loop, &r->worker, &s, err);
}

static int restore_start_attempt(struct restore *r, struct err *err)
{
	int sv[2];

	snprintf(r->dir, sizeof(r->dir), "%s.r%u", r->job->task.pod_dir, r->next + 1);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_sys(err, errno, "cannot make the pod's control socket");
	r->ctl_fd = sv[0];
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	loop_add(r->job->loop, &r->ctl, sv[0], restore_on_ctl, r);
	loop_timer_set(r->job->loop, &r->limit, now_us() + ((int64_t)r->job->conf.timeout + RESTORE_MARGIN) * 1000000,
		       restore_on_limit, r);
	int rc = restore_start_worker(r, sv[1], err);
	close(sv[1]);
	return rc;
}

static void restore_attempt(struct restore *r)
{
	struct err err;

	r->epoch = r->plan->epochs[r->next];
	r->restored = r->worker_ok = r->node_blamed = r->node_differs = r->told = false;
	r->began = now_us();
	r->error[0] = '\0';
	if (restore_start_attempt(r, &err) == 0)
		return;
	snprintf(r->error, sizeof(r->error), "%.500s", err.text);
	restore_failed(r);
}

static void restore_on_again(void *arg)
{
	struct restore *r = arg;

	loop_timer_clear(r->job->loop, &r->again);
	restore_attempt(r);
}

void restore_begin(struct restore *r)
{
	restore_attempt(r);
}

void restore_abort(struct restore *r)
{
	loop_timer_clear(r->job->loop, &r->again);
	restore_discard(r);
}
