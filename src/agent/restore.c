/* Attempts to restore, in the order of the plan, each in a pod of its own. The first pod, whose script waits at the
 * gate, stays until one has succeeded: it is the way back to the beginning. */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/json.h"
#include "criu/criu.h"
#include "policy/obstacle.h"
#include "pod/pod.h"

#define MARGIN 30 /* s behind CheckpointTimeout, which the worker keeps itself */

static void attempt(struct agent *a);
static void on_again(void *arg);

static void close_ctl(struct agent *a)
{
	loop_remove(&a->loop, &a->restore.ctl);
	cleanup_closep(&a->restore.ctl_fd);
	a->restore.ctl_fd = -1;
}

/* Leaves nothing of the attempt behind. */
static void discard(struct agent *a)
{
	proc_forget(&a->restore.worker);
	written_stop(a);
	loop_timer_clear(&a->loop, &a->restore.limit);
	/* fsched-init ends with its control socket, and the kernel kills its pod */
	close_ctl(a);
	if (a->restore.init > 0)
		pod_kill(a->restore.init, 5000, NULL);
	a->restore.init = 0;
	if (a->restore.dir[0])
		pod_cleanup(a->restore.dir);
	a->restore.dir[0] = '\0';
}

static enum failure_cause cause_of(const struct agent *a)
{
	static const enum failure_cause causes[] = {
		[OBSTACLE_UNKNOWN] = FAILED_EPOCH, [OBSTACLE_PASSES] = FAILED_PASSES, [OBSTACLE_NODE] = FAILED_NODE,
		[OBSTACLE_EPOCH] = FAILED_EPOCH,   [OBSTACLE_JOB] = FAILED_JOB,
	};
	enum obstacle_class class = obstacle_class(a->restore.error);

	return class == OBSTACLE_UNKNOWN && a->restore.node_blamed ? FAILED_NODE : causes[class];
}

static int64_t retry_left(const struct agent *a)
{
	return a->restore.trouble + (int64_t)a->conf.restore_retry * 1000000 - now_us();
}

/* "epoch 4: chunk digest mismatch; epoch 3: …", newest first, as far as there is room. */
static void remember(struct agent *a)
{
	size_t n = strlen(a->restore.history);

	snprintf(a->restore.history + n, sizeof(a->restore.history) - n, "%s%s", n ? "; " : "", a->restore.error);
}

/* What is in the way may be gone by then. The last attempt is made when the time is over. */
static void try_again(struct agent *a)
{
	int64_t pause = (int64_t)failure_pause(a->restore.tries++) * 1000000, left = retry_left(a);
	char wait[24], total[24];

	pause = pause < left ? pause : left;
	if (a->restore.tries == 1)
		job_log(a, "%s; this passes by itself: it is tried again for %s", a->restore.error,
			format_duration(left, total, sizeof(total)));
	snprintf(a->pub.status.error, sizeof(a->pub.status.error), "waits, next attempt in %s, for %s at most: %.180s",
		 format_duration(pause, wait, sizeof(wait)), format_duration(left, total, sizeof(total)),
		 a->restore.error);
	publish_now(a);
	loop_timer_set(&a->loop, &a->restore.again, now_us() + pause, on_again, a);
}

static void go_on(struct agent *a)
{
	struct failure_input in = {
		.cause = cause_of(a),
		.more_epochs = a->restore.next + 1 < a->start.plan.n_epochs,
		.may_move = move_possible(a),
		.otherwise = a->start.plan.otherwise,
	};
	enum failure_step step;
	char why[600];

	if (in.cause == FAILED_PASSES && !a->restore.trouble)
		a->restore.trouble = now_us();
	in.time_left = in.cause == FAILED_PASSES && retry_left(a) > 0;
	step = failure_decide(&in);
	if (step != FAILURE_AGAIN && !a->restore.told) {
		remember(a);
		job_log(a, "%s", a->restore.error);
		a->restore.told = true;
	}
	switch (step) {
	case FAILURE_AGAIN: try_again(a); break;
	case FAILURE_NEXT_EPOCH:
		a->restore.next++;
		attempt(a);
		break;
	case FAILURE_ELSEWHERE: move_begin(a, a->restore.error, go_on); break;
	case FAILURE_FRESH:
		job_log(a, "no epoch can be restored, the job starts over");
		snprintf(a->start.error, sizeof(a->start.error), "started over: %.390s", a->restore.history);
		start_fresh(a);
		break;
	case FAILURE_HOLD:
		snprintf(why, sizeof(why), "%s; its epochs are kept", a->restore.history);
		return_begin(a, RETURN_HOLD, why);
		break;
	}
}

/* a->restore.error says why, as far as is known. */
static void failed(struct agent *a)
{
	char why[sizeof(a->restore.error)];

	memcpy(why, a->restore.error, sizeof(why));
	if (!why[0])
		snprintf(why, sizeof(why), "the restored processes died at once");
	snprintf(a->restore.error, sizeof(a->restore.error), "epoch %u cannot be restored: %.440s", a->restore.epoch,
		 why);
	discard(a);
	/* Slurm's SIGTERM to all processes hits half-restored ones too: if there was one, first learn what it meant */
	if (!a->end.term)
		go_on(a);
	else
		a->restore.waits = true;
}

void restore_go_on(struct agent *a)
{
	if (a->phase == PHASE_RESTORING && a->restore.waits) {
		a->restore.waits = false;
		go_on(a);
	}
}

/* Epochs newer than the restored one belong to a history that this run does not share: its files will not be as they
 * were then. They stay on disk, but are no candidates any more. */
static void leave_history(struct agent *a)
{
	struct job_record *r = &a->rec;
	unsigned old = r->run;

	if (!r->n_epochs || r->epochs[r->n_epochs - 1].number == a->restore.epoch)
		return;
	r->run++;
	for (unsigned i = 0; i < r->n_epochs && r->epochs[i].number <= a->restore.epoch; i++)
		if (r->epochs[i].run == old)
			r->epochs[i].run = r->run;
}

static void take_over(struct agent *a)
{
	struct err err;

	loop_timer_clear(&a->loop, &a->restore.limit);
	gate_answer(a, "exit");
	pod_kill(a->pod.init, 2000, NULL);
	pod_release(a);
	pod_cleanup(a->task.pod_dir);
	a->phase = PHASE_RUNNING;
	pod_adopt(a, a->restore.init, steal_fd(&a->restore.ctl_fd), a->restore.dir);
	if (pod_find_script(a, &err) < 0)
		log_warn("signals to the batch script alone will not reach it: %s", err.text);
}

static void succeeded(struct agent *a)
{
	struct job_record *r = &a->rec;
	char took[24];
	struct err err;

	take_over(a);
	leave_history(a);
	r->intent = INTENT_RUNNING;
	r->restart_count = a->task.restart_count;
	snprintf(r->host, sizeof(r->host), "%s", a->task.node);
	if (job_save(a, &err) < 0) {
		log_error("%s", err.text);
		snprintf(a->start.error, sizeof(a->start.error), "%.500s", err.text);
	}
	job_log(a, "restored from epoch %u on %s in %s", a->restore.epoch, a->task.node,
		format_duration(now_us() - a->restore.began, took, sizeof(took)));
	a->start.copies = true; /* as they were when the job began */
	a->pub.status.restored = a->restore.epoch;
	a->pub.status.error[0] = '\0';
	if (a->restore.next > 0) /* a newer one could not be */
		snprintf(a->start.error, sizeof(a->start.error), "restored from epoch %u; %.400s", a->restore.epoch,
			 a->restore.history);
	start_service(a);
}

static void check_success(struct agent *a)
{
	if (a->restore.restored && a->restore.worker_ok && a->restore.init > 0 && !proc_running(&a->restore.worker))
		succeeded(a);
}

/* What init says, and what criu itself wrote about it. */
static void explain_failure(struct agent *a, const char *what)
{
	char log[400];

	criu_log_explain(a->store.dirfd, "restore.log", log, sizeof(log));
	snprintf(a->restore.error, sizeof(a->restore.error), "%.350s%s", log[0] ? log : what,
		 a->restore.node_differs ? " (this node differs from the one where it was saved, see checkpoint.log)"
					 : "");
	a->restore.node_blamed = a->restore.node_differs;
}

static void on_ctl(void *arg)
{
	struct agent *a = arg;
	char msg[512];
	int rc = pod_recv(a->restore.ctl_fd, msg, sizeof(msg));

	if (rc < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (rc > 0 && strncmp(msg, "restored", 8) == 0) {
		a->restore.restored = true;
		/* whatever comes next is news of the job, which runs again: it is read when the pod has been adopted */
		loop_remove(&a->loop, &a->restore.ctl);
		check_success(a);
	} else if (rc > 0 && strncmp(msg, "failed ", 7) == 0) {
		explain_failure(a, msg + 7);
	} else if (rc <= 0) {
		/* while the worker runs it is the one to say why */
		close_ctl(a);
		if (!proc_running(&a->restore.worker))
			failed(a);
	}
}

static void on_line(void *arg, char *line)
{
	struct agent *a = arg;
	json_error_t je;
	json_t *o = json_loads(line, 0, &je);
	const char *event = json_string_value(json_object_get(o, "event"));
	const char *error = json_string_value(json_object_get(o, "error"));
	const json_t *w;
	size_t i;

	if (event && strcmp(event, "pod") == 0) {
		/* its processes do not run yet */
		a->restore.init = (pid_t)json_integer_value(json_object_get(o, "init_pid"));
		if (a->restore.init > 0)
			written_start(a, a->restore.init, false);
	} else if (event && strcmp(event, "result") == 0) {
		a->restore.worker_ok = json_is_true(json_object_get(o, "ok"));
		a->restore.node_blamed = json_is_true(json_object_get(o, "node"));
		a->restore.node_differs = json_is_true(json_object_get(o, "differs"));
		if (error)
			snprintf(a->restore.error, sizeof(a->restore.error), "%.500s", error);
		json_array_foreach(json_object_get(o, "warnings"), i, w)
			if (json_is_string(w))
				job_log(a, "restore of epoch %u: warning: %s", a->restore.epoch, json_string_value(w));
	}
	json_decref(o);
}

static void on_worker_end(void *arg, int status)
{
	struct agent *a = arg;
	char *error = a->restore.error;
	size_t len = sizeof(a->restore.error);

	if (a->restore.worker_ok && a->restore.init > 0) {
		if (a->restore.restored)
			succeeded(a);
		else if (a->restore.ctl_fd < 0)
			failed(a);
		return; /* else criu is at work in the pod */
	}
	if (!error[0] && a->restore.worker.timed_out)
		snprintf(error, len, "it took longer than CheckpointTimeout (%u s)", a->conf.timeout);
	else if (!error[0] && WIFSIGNALED(status))
		snprintf(error, len, "the restore worker was killed by signal %d", WTERMSIG(status));
	else if (!error[0])
		snprintf(error, len, "the restore worker ended with status %d and gave no reason", WEXITSTATUS(status));
	failed(a);
}

static void on_limit(void *arg)
{
	struct agent *a = arg;

	snprintf(a->restore.error, sizeof(a->restore.error), "it took longer than CheckpointTimeout (%u s)",
		 a->conf.timeout);
	failed(a);
}

static int start_worker(struct agent *a, int init_ctl, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsched-worker", a->libexec), *text = NULL;
	char arg1[] = "restore";
	char *argv[] = { path, arg1, NULL };
	struct proc_spec s = { .argv = argv, .keep_fd = init_ctl, .on_line = on_line, .on_end = on_worker_end, .arg = a };
	json_t *o = worker_request(a);

	json_object_set_new(o, "epoch", json_integer(a->restore.epoch));
	json_set_name(o, "pod_dir", a->restore.dir);
	json_object_set_new(o, "ctl_fd", json_integer(init_ctl));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	s.request = text;
	return proc_start(&a->loop, &a->restore.worker, &s, err);
}

static int begin_attempt(struct agent *a, struct err *err)
{
	int sv[2];

	snprintf(a->restore.dir, sizeof(a->restore.dir), "%s.r%u", a->task.pod_dir, a->restore.next + 1);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_sys(err, errno, "cannot make the pod's control socket");
	a->restore.ctl_fd = sv[0];
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	loop_add(&a->loop, &a->restore.ctl, sv[0], on_ctl, a);
	loop_timer_set(&a->loop, &a->restore.limit, now_us() + ((int64_t)a->conf.timeout + MARGIN) * 1000000, on_limit,
		       a);
	int rc = start_worker(a, sv[1], err);
	close(sv[1]);
	return rc;
}

static void attempt(struct agent *a)
{
	struct err err;

	a->restore.epoch = a->start.plan.epochs[a->restore.next];
	a->restore.restored = a->restore.worker_ok = a->restore.node_blamed = a->restore.node_differs =
		a->restore.told = false;
	a->restore.began = now_us();
	a->restore.error[0] = '\0';
	if (begin_attempt(a, &err) == 0)
		return;
	snprintf(a->restore.error, sizeof(a->restore.error), "%.500s", err.text);
	failed(a);
}

static void on_again(void *arg)
{
	struct agent *a = arg;

	loop_timer_clear(&a->loop, &a->restore.again);
	attempt(a);
}

void restore_begin(struct agent *a)
{
	a->phase = PHASE_RESTORING;
	publish_state(a, "restoring");
	attempt(a);
}

void restore_abort(struct agent *a)
{
	loop_timer_clear(&a->loop, &a->restore.again);
	if (a->phase == PHASE_RESTORING)
		discard(a);
}
