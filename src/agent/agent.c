#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/answer.h"
#include "agent/end.h"
#include "agent/fence.h"
#include "agent/grace.h"
#include "agent/start.h"
#include "base/log.h"
#include "base/util.h"
#include "base/clock.h"
#include "pod/pod.h"

/* ---- requests ---- */

static void agent_on_able(void *arg, const char *reason)
{
	answer_able(arg, reason);
}

static void agent_on_request(void *arg, struct request *r, const char *op)
{
	answer_request(arg, r, op);
}

static void agent_on_request_gone(void *arg, struct request *r)
{
	struct agent *a = arg;

	checkpoint_request_gone(&a->checkpoint, r);
}

static void agent_on_listening(void *arg)
{
	struct agent *a = arg;
	struct status *s = &a->publish.status;

	snprintf(s->agent, sizeof(s->agent), "%u", a->requests.port);
	publish_now(&a->publish);
}

static void agent_on_not_listening(void *arg)
{
	struct agent *a = arg;

	publish_error(&a->publish, a->requests.error);
}

/* ---- the pod, the gate and signals ---- */

static void agent_on_up(void *arg)
{
	struct agent *a = arg;

	a->start.up = true;
	start_check(a);
}

static void agent_on_ready(void *arg)
{
	struct agent *a = arg;

	a->start.ready = true;
	start_check(a);
}

static void agent_on_output_kept(void *arg, bool ok, const char *what)
{
	start_output_kept(arg, ok, what);
}

static void agent_on_script_end(void *arg, int wait_status)
{
	end_script(arg, wait_status);
}

static void agent_on_pod_died(void *arg, int wait_status)
{
	end_pod_died(arg, wait_status);
}

static void agent_on_fenced(void *arg)
{
	fence(arg, "its lease was not renewed in time");
}

/* The job has killed its leader, fsched's process in it, and computes on. criu needs that process to restore the job.
 */
static void agent_on_lost_leader(void *arg, int sig)
{
	struct agent *a = arg;
	struct status *s = &a->publish.status;
	char *lost = a->checkpoint.lost;

	if (a->end.term) /* Slurm kills all processes of the job */
		return;
	snprintf(lost, sizeof(a->checkpoint.lost),
		 "a process of the job has killed fsched-leader, process 2 of the job (signal %d), without "
		 "which it cannot be restored",
		 sig);
	job_log(&a->job, "the job can be checkpointed no more: %s; it runs on", lost);
	sched_stop(&a->sched);
	notice_stop(&a->notice);
	snprintf(s->error, sizeof(s->error), "no more checkpoints: %.220s", lost);
	publish_now(&a->publish);
}

static void agent_on_deliver(void *arg, int sig, enum sig_scope scope)
{
	struct agent *a = arg;

	if (a->phase == PHASE_RUNNING && grace_withholds(a, sig, scope))
		return;
	if (a->phase == PHASE_RUNNING)
		pod_watch_deliver(&a->pod, sig, scope);
	else if ((a->phase == PHASE_STARTING || a->phase == PHASE_RESTORING) && scope != SIG_SCOPE_ALL)
		sigaddset(&a->start.pending, sig);
}

static void agent_on_signal(void *arg, int sig)
{
	struct agent *a = arg;

	if (sig == SIGCONT)
		a->job.continued_at = now_us();
	if (sig == SIGTERM)
		grace_begin(a);
	signals_own(&a->signals, sig);
	end_signal(a, sig);
}

static void agent_after_event(void *arg)
{
	grace_check(arg);
	end_check(arg);
}

/* ---- the lease ---- */

static void agent_on_lease(void *arg)
{
	start_with_lease(arg);
}

static void agent_on_no_lease(void *arg, const char *why)
{
	start_without_lease(arg, why);
}

static void agent_on_lease_lost(void *arg, const char *why)
{
	fence(arg, why);
}

static void agent_on_deadline_moved(void *arg)
{
	struct agent *a = arg;

	pod_watch_tell_lease(&a->pod, a->lease.until);
}

/* ---- operations ---- */

static bool agent_job_runs(void *arg)
{
	const struct agent *a = arg;

	return a->phase == PHASE_RUNNING;
}

static bool agent_may_schedule(void *arg)
{
	const struct agent *a = arg;

	return a->phase == PHASE_RUNNING && !a->checkpoint.op.active && !*a->checkpoint.lost;
}

static void agent_on_due(void *arg)
{
	struct agent *a = arg;

	checkpoint_start(&a->checkpoint, OP_PERIODIC, NULL);
}

static void agent_on_sched_changed(void *arg)
{
	struct agent *a = arg;

	publish_now(&a->publish);
}

static int64_t agent_last_checkpoint_us(void *arg)
{
	const struct agent *a = arg;

	return a->publish.status.total_us;
}

static unsigned agent_hook_seconds(void *arg)
{
	const struct agent *a = arg;

	return hook_seconds_before(&a->hook);
}

static bool agent_hurry(void *arg)
{
	struct agent *a = arg;

	if (!a->checkpoint.op.active)
		return false;
	checkpoint_hurry(&a->checkpoint);
	return true;
}

static void agent_on_notice(void *arg, enum notice_action action)
{
	struct agent *a = arg;

	checkpoint_start(&a->checkpoint,
			 action == NOTICE_SAVE_AND_REQUEUE ? OP_PREEMPT
			 : action == NOTICE_CONTINUE       ? OP_REQUEUE
							   : OP_LIMIT,
			 NULL);
}

static void agent_on_held(void *arg)
{
	struct agent *a = arg;

	vacate_held(&a->vacate);
}

static void agent_on_held_worker_end(void *arg, bool ok)
{
	struct agent *a = arg;

	vacate_worker_ended(&a->vacate, ok);
}

static void agent_on_held_cancelled(void *arg)
{
	struct agent *a = arg;

	vacate_stop(&a->vacate);
}

static void agent_on_gone(void *arg)
{
	struct agent *a = arg;

	agent_enter(a, PHASE_LEAVING);
	hook_stop(&a->hook);
	sched_stop(&a->sched);
	notice_stop(&a->notice);
	requests_forget_start(&a->requests);
}

/* A job that would continue by itself is held: its entry says why. Who restarts it gives it the same total again. */
static void agent_stop_continuing(struct agent *a)
{
	struct status *s = &a->publish.status;
	struct err err;

	snprintf(s->error, sizeof(s->error), "%s", notice_text(a->notice.action));
	job_reset_used(&a->job);
	if (job_save(&a->job, &err) < 0)
		log_error("cannot record that the job's total running time begins again: %s", err.text);
}

static enum status_state agent_state_of_left(const struct agent *a, enum op_kind kind)
{
	if (!op_requeues(kind))
		return STATUS_VACATED;
	return kind == OP_PREEMPT || (kind == OP_EVICT && a->grace.preempted) ? STATUS_PREEMPTED : STATUS_REQUEUED;
}

static void agent_on_left(void *arg, enum op_kind kind)
{
	struct agent *a = arg;

	a->publish.status.error[0] = '\0';
	if (kind == OP_LIMIT && a->notice.action != NOTICE_VACATE)
		agent_stop_continuing(a);
	end_requests(a);
	publish_state(&a->publish, agent_state_of_left(a, kind));
	job_prune(&a->job);
	checkpoint_finish(&a->checkpoint);
	end_leave(a);
}

static void agent_on_stayed(void *arg, const char *error)
{
	struct agent *a = arg;
	struct status *s = &a->publish.status;

	snprintf(s->error, sizeof(s->error), "%.250s", error);
	publish_now(&a->publish);
	job_prune(&a->job);
	checkpoint_finish(&a->checkpoint);
}

static void agent_on_resumed(void *arg)
{
	struct agent *a = arg;

	if (a->end.term) /* somebody ended the job meanwhile */
		end_signal(a, SIGTERM);
}

/* ---- a restore ---- */

static bool agent_slurm_ends(void *arg)
{
	const struct agent *a = arg;

	return a->end.term;
}

static bool agent_may_move(void *arg)
{
	const struct agent *a = arg;

	return other_node_possible(&a->other_node, a->publish.status.tried);
}

static void agent_on_no_other_node(void *arg)
{
	struct agent *a = arg;

	restore_decide(&a->restore);
}

static void agent_on_restore_failed(void *arg, enum failure_step step, const char *why)
{
	struct agent *a = arg;

	if (step == FAILURE_ELSEWHERE) {
		other_node_begin(&a->other_node, why, a->start.requested, agent_on_no_other_node);
	} else if (step == FAILURE_FRESH) {
		snprintf(a->start.error, sizeof(a->start.error), "started over: %.390s", why);
		a->start.over = true;
		start_fresh(a);
	} else {
		end_requeue(a, REQUEUE_HELD, why);
	}
}

/* The first pod, whose script waits at the gate, was the way to start over. The restored one takes its place. */
static void agent_take_over(void *arg, pid_t init, int ctl, const char *dir)
{
	struct agent *a = arg;
	struct err err;

	gate_answer(&a->gate, "exit");
	pod_kill(a->pod.init, 2000, NULL);
	pod_watch_release(&a->pod);
	pod_cleanup(a->job.task.pod_dir);
	agent_enter(a, PHASE_RUNNING);
	a->checkpoint.lost[0] = '\0'; /* that was the leader of the first pod */
	pod_watch_adopt(&a->pod, init, ctl, dir);
	step_list_start(&a->step_list, init);
	pod_watch_tell_lease(&a->pod, a->lease.until);
	if (pod_watch_find_script(&a->pod, &err) < 0)
		log_warn("signals to the batch script alone will not reach it: %s", err.text);
}

static void agent_on_restored(void *arg)
{
	struct agent *a = arg;
	struct status *s = &a->publish.status;

	a->job.copies_saved = true; /* when the job began */
	s->restored = a->restore.epoch;
	s->error[0] = '\0';
	if (a->restore.note[0])
		snprintf(a->start.error, sizeof(a->start.error), "%s", a->restore.note);
	start_service(a);
	hook_after(&a->hook, a->restore.epoch);
}

/* ---- back to Slurm ---- */

static void agent_on_requeue(void *arg)
{
	struct agent *a = arg;

	publish_now(&a->publish);
}

static void agent_on_requeued(void *arg)
{
	end_leave(arg);
}

static void agent_on_over(void *arg)
{
	end_given_up(arg);
}

static void agent_on_moved(void *arg)
{
	end_given_back(arg);
}

/* ---- the beginning ---- */

static void agent_wire_services(struct agent *a)
{
	struct job *j = &a->job;

	a->publish.job = a->tell_user.job = a->hook.job = j;
	a->hook.pod = &a->pod;
	a->prove = (struct prove_epochs){ .job = j, .publish = &a->publish };
	a->write_list = (struct write_list_watch){ .job = j, .source.fd = -1, .name_source.fd = -1 };
	a->step_list = (struct step_list){ .job = j, .shm = -1, .events = -1, .source.fd = -1 };
	a->can_checkpoint = (struct can_checkpoint){ .loop = &a->loop, .answer = agent_on_able, .arg = a };
	a->sched = (struct sched){
		.job = j, .may = agent_may_schedule, .due = agent_on_due, .changed = agent_on_sched_changed, .arg = a
	};
	a->notice = (struct notice){ .job = j,
				     .checkpoint_us = agent_last_checkpoint_us,
				     .hook_seconds = agent_hook_seconds,
				     .busy = agent_hurry,
				     .act = agent_on_notice,
				     .arg = a };
	a->lease = (struct lease_watch){ .job = j,
					 .acquired = agent_on_lease,
					 .failed = agent_on_no_lease,
					 .lost = agent_on_lease_lost,
					 .deadline_moved = agent_on_deadline_moved,
					 .wanted = agent_job_runs,
					 .arg = a };
	a->requeue = (struct requeue){
		.job = j, .before = agent_on_requeue, .done = agent_on_requeued, .over = agent_on_over, .arg = a
	};
	a->other_node = (struct other_node){ .job = j, .done = agent_on_moved, .arg = a };
	/* too large for a compound literal on the stack */
	a->requests.job = j;
	a->requests.listen.fd = -1;
	a->requests.ask = agent_on_request;
	a->requests.gone = agent_on_request_gone;
	a->requests.listening = agent_on_listening;
	a->requests.failed = agent_on_not_listening;
	a->requests.arg = a;
}

static void agent_wire_pod(struct agent *a)
{
	a->gate = (struct gate){
		.loop = &a->loop, .sock.fd = -1, .ready = agent_on_ready, .kept = agent_on_output_kept, .arg = a
	};
	a->pod = (struct pod_watch){ .loop = &a->loop,
				     .signals = &a->signals,
				     .script_fd = -1,
				     .ctl.fd = -1,
				     .up = agent_on_up,
				     .exited_with = agent_on_script_end,
				     .lost_leader = agent_on_lost_leader,
				     .fenced = agent_on_fenced,
				     .died = agent_on_pod_died,
				     .arg = a };
}

static void agent_wire_operations(struct agent *a)
{
	struct job *j = &a->job;

	a->checkpoint = (struct checkpoint){ .job = j,
					     .pod = &a->pod,
					     .write_list = &a->write_list,
					     .sched = &a->sched,
					     .publish = &a->publish,
					     .tell_user = &a->tell_user,
					     .hook = &a->hook,
					     .requests = &a->requests,
					     .make_room.job = j,
					     .prove = &a->prove,
					     .job_runs = agent_job_runs,
					     .held = agent_on_held,
					     .held_worker_ended = agent_on_held_worker_end,
					     .held_cancelled = agent_on_held_cancelled,
					     .arg = a };
	a->vacate = (struct vacate){ .job = j,
				     .checkpoint = &a->checkpoint,
				     .gone = agent_on_gone,
				     .left = agent_on_left,
				     .stayed = agent_on_stayed,
				     .resumed = agent_on_resumed,
				     .arg = a };
	a->restore = (struct restore){ .job = j,
				       .publish = &a->publish,
				       .write_list = &a->write_list,
				       .plan = &a->start.plan,
				       .ctl.fd = -1,
				       .ctl_fd = -1,
				       .slurm_ends = agent_slurm_ends,
				       .may_move = agent_may_move,
				       .failed = agent_on_restore_failed,
				       .take_over = agent_take_over,
				       .succeeded = agent_on_restored,
				       .arg = a };
}

static int agent_find_libexec(struct job *j, struct err *err)
{
	ssize_t n = readlink("/proc/self/exe", j->libexec, sizeof(j->libexec) - 1);

	if (n <= 0)
		return err_sys(err, errno, "cannot read /proc/self/exe");
	j->libexec[n] = '\0';
	*strrchr(j->libexec, '/') = '\0';
	return 0;
}

static void agent_quiet_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3 && fd >= 0; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void agent_init_status(struct agent *a)
{
	struct status *s = &a->publish.status;

	s->state = STATUS_ENABLED;
	s->interval = a->job.task.interval;
	memcpy(s->uuid, a->job.task.uuid, sizeof(s->uuid));
}

/* Log, environment and process attributes as the agent and its children need them. */
static int agent_set_up_process(struct agent *a, struct err *err)
{
	char prefix[32], restarts[16];
	struct err why;

	snprintf(prefix, sizeof(prefix), "job %u", a->job.task.job_id);
	log_prefix(prefix);
	snprintf(restarts, sizeof(restarts), "%u", a->job.task.restart_count);
	if (setenv("FSCHED_RESTART_COUNT", restarts, 1)) /* for fsched-slurm */
		return err_sys(err, errno, "cannot set the environment");
	if (chdir("/") < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_sys(err, errno, "cannot become the job's supervisor");
	conf_defaults(&a->job.conf);
	if (job_open_conf(&a->job, &why) < 0)
		start_unprotected(a, &why);
	agent_quiet_stdio();
	return 0;
}

int agent_begin(struct agent *a, int task_fd, struct err *err)
{
	struct task *t = &a->job.task;

	agent_wire_services(a);
	agent_wire_pod(a);
	agent_wire_operations(a);
	if (mailbox_make(&a->checkpoint.mailbox))
		errno = 0; /* a worker then finds out anew what the one before would have left to it */
	a->job.store.dirfd = a->job.store.epochsfd = -1;
	sigemptyset(&a->start.pending);
	umask(022);
	log_open(LOG_TO_SYSLOG, "fsched-agent", NULL);
	if (task_read(t, task_fd, err) < 0 || agent_find_libexec(&a->job, err) < 0 || loop_init(&a->loop, err) < 0 ||
	    agent_set_up_process(a, err) < 0)
		return -1;
	agent_init_status(a);
	a->job.loop = &a->loop;
	a->loop.owner = a;
	a->loop.on_signal = agent_on_signal;
	a->loop.after = agent_after_event;
	fcntl(t->ctl_fd, F_SETFD, FD_CLOEXEC);
	fcntl(t->gate_fd, F_SETFD, FD_CLOEXEC);
	pod_watch_adopt(&a->pod, t->init_pid, t->ctl_fd, t->pod_dir);
	pod_watch_set_script(&a->pod, t->script_pid);
	if (signals_start(&a->signals, &a->loop, agent_on_deliver, a, err) < 0)
		return -1;
	if (gate_watch(&a->gate, t->gate_fd) < 0)
		return err_sys(err, errno, "cannot watch the script's process");
	return 0;
}
