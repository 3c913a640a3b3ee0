#include "agent/end.h"
#include "agent/grace.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/record_history.h"
#include "base/log.h"
#include "base/clock.h"
#include "pod/pod.h"

#define END_LIMIT       4000000  /* us that a slow slurmctld may delay the job's end */
#define END_LEAVE_LIMIT 10000000 /* us to wait for Slurm's SIGTERM */
#define END_LEAVE_LAST  3000000  /* and then for what is still under way */
#define END_GET_TIMEOUT 30       /* s */

static void end_on_limit(void *arg);

/* ---- what a SIGTERM means ---- */

static void end_vacated_after_all(struct agent *a)
{
	job_log(&a->job, "the requeue of the vacate has happened after all; the job is held and will be restored");
	a->vacate.unresolved = false;
	checkpoint_cancel(&a->checkpoint, "the job has left the node");
	agent_enter(a, PHASE_LEAVING);
	sched_stop(&a->sched);
	notice_stop(&a->notice);
	end_requests(a);
	job_set_intent(&a->job, INTENT_VACATED);
	pod_kill(a->pod.init, 2000, NULL);
	a->publish.status.error[0] = '\0';
	publish_state(&a->publish, STATUS_VACATED);
	end_leave(a);
}

/* The record stays as it is, unless somebody wants to start over. */
void end_given_up(struct agent *a)
{
	rpc_forget(&a->start.ask);
	if (a->phase == PHASE_RESTORING)
		restore_abort(&a->restore);
	requeue_stop(&a->requeue);
	other_node_stop(&a->other_node);
	job_log(&a->job, "ended by Slurm before it was started");
	a->end.status = SIGTERM;
	agent_enter(a, PHASE_ENDING);
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, end_on_limit, a);
	gate_answer(&a->gate, "exit");
	pod_kill(a->pod.init, 2000, NULL);
}

static void end_publish(struct agent *a)
{
	publish_state(&a->publish, a->end.continues    ? STATUS_RESTORING
				   : a->end.comes_back ? STATUS_ENABLED
						       : STATUS_ENDED);
}

/* The record is written as soon as something is known: SIGKILL or a power failure may come at any moment. */
static void end_record(struct agent *a, enum end_meaning meaning)
{
	const struct record_input in = { .ended = a->phase == PHASE_ENDING, .itself = a->end.itself, .meaning = meaning };

	switch (record_decide(&in)) {
	case RECORD_ENDED:
		if (a->job.rec.intent != INTENT_DONE || a->job.rec.status != a->end.status)
			job_set_ended(&a->job, INTENT_DONE, a->end.status);
		break;
	case RECORD_OVER: job_set_intent(&a->job, INTENT_DONE); break;
	case RECORD_REQUEUED: job_set_intent(&a->job, INTENT_REQUEUED); break;
	case RECORD_KEEP: break;
	}
}

static void end_learn(struct agent *a, enum end_meaning meaning)
{
	a->end.comes_back = meaning == END_START_OVER || meaning == END_CONTINUE || meaning == END_ELSEWHERE;
	a->end.continues = meaning == END_CONTINUE || meaning == END_ELSEWHERE;
	if (meaning == END_START_OVER)
		job_log(&a->job, "requeued; the next start is from the beginning");
	else if (a->end.continues && a->end.itself)
		job_log(&a->job,
			"requeued by Slurm, which had not heard of the script's end; the next start ends as this one did");
	else if (a->end.continues)
		job_log(&a->job, "requeued; the next start is from the newest epoch");
	if (a->end.comes_back && a->start.ran)
		record_history_ended(&a->job, "requeued");
	if (a->start.ran || meaning == END_START_OVER)
		end_record(a, meaning);
}

/* If the requeue of a vacate seemed to have failed, it is the reason why Slurm has the job in its queue. */
static enum end_meaning end_meaning_of(const struct agent *a, const struct end_input *in)
{
	return a->vacate.unresolved && in->pending ? END_CONTINUE : end_decide(in);
}

static void end_on_meaning(void *arg, bool ok, const json_t *job, const char *error)
{
	struct agent *a = arg;
	const struct end_input in = job_end_input(&a->job, ok, job);

	if (!ok) {
		log_warn("Slurm cannot be asked how it takes the end of the job: %s", error);
	} else if (a->vacate.unresolved && in.pending && !a->end.itself) {
		end_vacated_after_all(a);
		return;
	} else if (!a->end.comes_back) {
		end_learn(a, end_meaning_of(a, &in));
	}
	grace_learn(a, end_meaning_of(a, &in), &in, json_integer_value(json_object_get(job, "kill_wait")));
	if (ok && !in.running && (a->phase == PHASE_STARTING || a->phase == PHASE_RESTORING))
		end_given_up(a);
	else if (a->phase == PHASE_ENDING && a->start.ran)
		end_publish(a);
	else if (a->phase == PHASE_RESTORING)
		restore_go_on(&a->restore);
}

static void end_ask_meaning(struct agent *a)
{
	if (!rpc_running(&a->end.get))
		rpc_start(&a->loop, &a->end.get, a->job.libexec, END_GET_TIMEOUT, "get", a->job.task.job_id, NULL,
			  end_on_meaning, a);
}

static void end_on_node_stop(void *arg)
{
	struct agent *a = arg;

	if (!a->end.node_stop.stops)
		end_ask_meaning(a);
	else
		job_log(&a->job,
			"the node is being shut down; Slurm is told nothing of the job's end here, and starts it again from its newest epoch");
}

/* Slurm does not know that systemd ends the job, and would say that it runs. */
static void end_ask_why(struct agent *a)
{
	if (!a->end.node_stop.stops)
		node_stop_ask(&a->end.node_stop, &a->loop, end_on_node_stop, a);
}

void end_signal(struct agent *a, int sig)
{
	if (sig != SIGTERM)
		return;
	a->end.term = true;
	switch (a->phase) {
	case PHASE_HOLDING:
		requeue_ask_now(&a->requeue); /* it was cancelled, or the answer to a requeue was lost */
		break;
	case PHASE_LEAVING: break;
	default:
		/* A requeue by vacate.c or other_node.c causes a SIGTERM, and they wait for the answer to it. */
		if (!a->checkpoint.op.held && !a->other_node.active)
			end_ask_why(a);
	}
}

/* ---- the script's end ---- */

static void end_describe_status(int status, char *text, size_t len)
{
	if (WIFSIGNALED(status))
		snprintf(text, len, "the script was killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, len, "the script ended with exit status %d", WEXITSTATUS(status));
}

static void end_on_limit(void *arg)
{
	struct agent *a = arg;

	if (node_stop_asking(&a->end.node_stop)) { /* nothing has been told to Slurm yet */
		loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, end_on_limit, a);
		return;
	}
	rpc_forget(&a->end.get);
	publish_give_up(&a->publish);
	if (a->phase == PHASE_LEAVING && !a->end.term) {
		/* Slurm has had the time to send its SIGTERM */
		a->end.term = true;
		loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LEAVE_LAST, end_on_limit, a);
		return;
	}
	a->loop.quit = true;
}

/* Slurm is asked in any case: it may have requeued the job at the moment when its script ended. */
static void end_begin(struct agent *a, int status)
{
	a->end.itself = a->start.ran && ended_how(status) == ENDED_ITSELF && a->job.rec.intent == INTENT_RUNNING &&
			!a->end.comes_back && !a->end.node_stop.stops && !node_stop_asking(&a->end.node_stop) &&
			!rpc_running(&a->end.get);
	agent_enter(a, PHASE_ENDING);
	a->end.status = status;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, end_on_limit, a);
	checkpoint_cancel(&a->checkpoint, "the job has ended");
	hook_stop(&a->hook);
	sched_stop(&a->sched);
	notice_stop(&a->notice);
	end_requests(a);
	if (!a->start.ran)
		return;
	end_record(a, END_UNKNOWN);
	if (a->end.comes_back)
		end_publish(a);
	else if (!a->end.itself)
		end_ask_why(a);
	else
		end_ask_meaning(a);
}

void end_script(struct agent *a, int status)
{
	char text[80];

	/* the first pod ends when a restored one has taken its place, or none will */
	if (a->phase != PHASE_RUNNING && a->phase != PHASE_STARTING)
		return;
	end_describe_status(status, text, sizeof(text));
	job_log(&a->job, "%s", text);
	record_history_ended(&a->job, text);
	end_begin(a, status);
}

/* Nothing is written into the job's output, which is whole. */
void end_as_before(struct agent *a)
{
	struct status *s = &a->publish.status;
	char how[80];

	end_describe_status(a->job.rec.status, how, sizeof(how));
	snprintf(s->error, sizeof(s->error), "not run again: %s on node %.100s, and Slurm had not heard of it", how,
		 a->job.rec.host);
	job_log(&a->job, "%s; the job ends with this status; to run it again: scontrol requeue %u", s->error,
		a->job.task.job_id);
	agent_enter(a, PHASE_ENDING);
	a->end.status = a->job.rec.status;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, end_on_limit, a);
	gate_answer(&a->gate, "exit");
	publish_state(&a->publish, STATUS_ENDED);
}

void end_unstarted(struct agent *a, const char *why)
{
	job_log(&a->job, "the job cannot be started: %s", why);
	end_begin(a, 1 << 8);
}

void end_pod_died(struct agent *a, int status)
{
	if (a->phase == PHASE_RESTORING) {
		/* its script's process was only waiting; the job can start over no more */
		log_warn("the process that waited to start the job over has ended");
		return;
	}
	if (a->phase != PHASE_RUNNING && a->phase != PHASE_STARTING)
		return;
	if (WIFSIGNALED(status))
		job_log(&a->job, "the pod was killed by signal %d from outside; the job has failed", WTERMSIG(status));
	else
		job_log(&a->job, "the pod ended unexpectedly (status %d); the job has failed", WEXITSTATUS(status));
	record_history_ended(&a->job, "the pod was killed");
	end_begin(a, SIGKILL);
}

/* ---- the agent's end ---- */

void end_requests(struct agent *a)
{
	requests_stop(&a->requests);
	a->publish.status.agent[0] = '\0';
	can_checkpoint_stop(&a->can_checkpoint);
	a->can_checkpoint.answer(a->can_checkpoint.arg, "the job does not run any more");
}

static void end_pod(struct agent *a)
{
	gate_answer(&a->gate, "exit");
	pod_watch_release(&a->pod);
}

void end_requeue(struct agent *a, enum requeue_mode mode, const char *why)
{
	struct status *s = &a->publish.status;

	agent_enter(a, PHASE_HOLDING);
	if (mode == REQUEUE_HELD) {
		job_log(&a->job, "the job is not started: %s", why);
		record_history_held(&a->job, why);
	}
	end_pod(a);
	s->state = mode == REQUEUE_HELD ? STATUS_HELD : STATUS_RESTORING;
	snprintf(s->error, sizeof(s->error), "%.250s", why);
	requeue_begin(&a->requeue, mode);
}

void end_leave(struct agent *a)
{
	agent_enter(a, PHASE_LEAVING);
	a->end.status = 0;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LEAVE_LIMIT, end_on_limit, a);
}

void end_given_back(struct agent *a)
{
	end_pod(a);
	end_leave(a);
}

/* The lease is the last thing that is given up. */
static bool end_release_lease(struct agent *a)
{
	write_list_watch_stop(&a->write_list);
	step_list_stop(&a->step_list);
	if (!lease_watch_idle(&a->lease))
		lease_watch_end(&a->lease);
	return lease_watch_idle(&a->lease);
}

static bool end_nothing_under_way(const struct agent *a)
{
	return publish_idle(&a->publish) && requests_idle(&a->requests) && !proc_running(&a->job.prune) &&
	       !a->checkpoint.op.active && !a->pod.init;
}

void end_check(struct agent *a)
{
	if (a->phase == PHASE_LEAVING && a->end.term && end_nothing_under_way(a) && end_release_lease(a))
		a->loop.quit = true;
	if (a->phase == PHASE_ENDING && !rpc_running(&a->end.get) && !node_stop_asking(&a->end.node_stop) &&
	    end_nothing_under_way(a) && end_release_lease(a))
		a->loop.quit = true;
}

void end_finish(struct agent *a)
{
	signals_stop(&a->signals);
	if (a->pod.init)
		pod_kill(a->pod.init, 2000, NULL);
	write_list_watch_stop(&a->write_list);
	step_list_stop(&a->step_list);
	pod_cleanup(a->pod.dir);
	node_stop_silence(&a->end.node_stop);
}

void end_process(int status)
{
	const struct rlimit none = { 0 };
	sigset_t set;

	if (WIFSIGNALED(status)) {
		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_DUMPABLE, 0);
		signal(WTERMSIG(status), SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, WTERMSIG(status));
		kill(getpid(), WTERMSIG(status));
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		_exit(128 + WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}
