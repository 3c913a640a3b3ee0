/* How the job ends, and with it the agent.
 *
 *   the script ends           -> exit as it did
 *   vacated or held           -> wait for Slurm's SIGTERM, exit 0 (Slurm has the job already)
 *   fsched-init dies          -> the job has failed
 *   Slurm ends the job        -> the script gets the SIGTERM itself; the agent finds out why, for the next start must
 * know
 */
#include "agent/agent.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/clock.h"
#include "pod/pod.h"

#define END_LIMIT   4000000  /* us that a slow slurmctld may delay the job's end */
#define LEAVE_LIMIT 10000000 /* us to wait for Slurm's SIGTERM */
#define LEAVE_LAST  3000000  /* and then for what is still under way */
#define GET_TIMEOUT 30       /* s */

static void on_limit(void *arg);

/* ---- what a SIGTERM means ---- */

static bool json_flag(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

struct end_input end_input_of(const struct agent *a, bool ok, const json_t *job)
{
	return (struct end_input){
		.known = ok,
		.pending = json_flag(job, "pending"),
		.completing = json_flag(job, "completing"),
		.running = json_flag(job, "running"),
		.finished = json_flag(job, "finished"),
		.preempted = json_integer_value(json_object_get(job, "preempt_time")) > 0,
		.newer = json_integer_value(json_object_get(job, "restart_count")) > (json_int_t)a->task.restart_count,
	};
}

static void vacated_after_all(struct agent *a)
{
	job_log(a, "the requeue of the vacate has happened after all; the job is held and will be restored");
	a->end.unresolved = false;
	op_cancel(a, "the job has left the node");
	a->phase = PHASE_LEAVING;
	sched_stop(a);
	notice_stop(a);
	requests_stop(a);
	job_set_intent(a, INTENT_VACATED);
	pod_kill(a->pod.init, 2000, NULL);
	a->pub.status.error[0] = '\0';
	publish_state(a, "vacated");
	end_leave(a);
}

/* Slurm ends the job before it has run: what the record says stands, unless somebody wants to start over. */
void end_given_up(struct agent *a)
{
	rpc_forget(&a->start.ask);
	restore_abort(a);
	return_stop(a);
	move_stop(a);
	job_log(a, "ended by Slurm before it was started");
	a->end.status = SIGTERM;
	a->phase = PHASE_ENDING;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, on_limit, a);
	gate_answer(a, "exit");
	pod_kill(a->pod.init, 2000, NULL);
	end_check(a);
}

static void publish_end(struct agent *a)
{
	publish_state(a, a->end.continues ? "restoring" : a->end.comes_back ? "enabled" : "ended");
}

/* The record keeps up with what is known: SIGKILL, or the end of the node's power, may come any moment. */
static void record(struct agent *a, enum end_meaning meaning)
{
	const struct record_input in = { .ended = a->phase == PHASE_ENDING, .itself = a->end.itself, .meaning = meaning };

	switch (record_decide(&in)) {
	case RECORD_ENDED:
		if (a->rec.intent != INTENT_DONE || a->rec.status != a->end.status)
			job_set_ended(a, INTENT_DONE, a->end.status);
		break;
	case RECORD_OVER: job_set_intent(a, INTENT_DONE); break;
	case RECORD_REQUEUED: job_set_intent(a, INTENT_REQUEUED); break;
	case RECORD_KEEP: break;
	}
}

static void learn(struct agent *a, enum end_meaning meaning)
{
	a->end.comes_back = meaning == END_START_OVER || meaning == END_CONTINUE || meaning == END_ELSEWHERE;
	a->end.continues = meaning == END_CONTINUE || meaning == END_ELSEWHERE;
	if (meaning == END_START_OVER)
		job_log(a, "requeued; the next start is from the beginning");
	else if (a->end.continues && a->end.itself)
		job_log(a,
			"requeued by Slurm, which had not heard of the script's end; the next start ends as this one did");
	else if (a->end.continues)
		job_log(a, "requeued by Slurm; the next start is from the newest epoch");
	if (a->start.ran || meaning == END_START_OVER)
		record(a, meaning);
}

/* Slurm has the job in its queue because of a vacate whose requeue seemed to have failed. */
static enum end_meaning meaning_of(const struct agent *a, const struct end_input *in)
{
	return a->end.unresolved && in->pending ? END_CONTINUE : end_decide(in);
}

static void on_meaning(void *arg, bool ok, const json_t *job, const char *error)
{
	struct agent *a = arg;
	const struct end_input in = end_input_of(a, ok, job);

	if (!ok) {
		log_warn("Slurm cannot be asked how it takes the end of the job: %s", error);
	} else if (a->end.unresolved && in.pending && !a->end.itself) {
		vacated_after_all(a);
		return;
	} else if (!a->end.comes_back) {
		learn(a, meaning_of(a, &in));
	}
	if (ok && !json_flag(job, "running") && (a->phase == PHASE_STARTING || a->phase == PHASE_RESTORING))
		end_given_up(a);
	else if (a->phase == PHASE_ENDING && a->start.ran)
		publish_end(a);
	else
		restore_go_on(a);
	end_check(a);
}

static void ask_meaning(struct agent *a)
{
	if (!rpc_running(&a->end.get))
		rpc_start(&a->loop, &a->end.get, a->libexec, GET_TIMEOUT, "get", a->task.job_id, NULL, on_meaning, a);
}

void end_signal(struct agent *a, int sig)
{
	if (sig != SIGTERM)
		return;
	a->end.term = true;
	switch (a->phase) {
	case PHASE_HOLDING:
		return_look(a); /* cancelled, or a requeue of which the answer was lost */
		break;
	case PHASE_LEAVING: end_check(a); break;
	default:
		/* the requeue of a vacate or a move causes one of its own, and vacate.c or move.c is waiting for its
		 * answer */
		if (!a->op.held && !a->move.active)
			ask_meaning(a);
	}
}

/* ---- the script's end ---- */

static void describe_status(int status, char *text, size_t len)
{
	if (WIFSIGNALED(status))
		snprintf(text, len, "the script was killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, len, "the script ended with exit status %d", WEXITSTATUS(status));
}

static void on_limit(void *arg)
{
	struct agent *a = arg;

	rpc_forget(&a->end.get);
	rpc_forget(&a->pub.rpc);
	a->pub.dirty = false;
	if (a->phase == PHASE_LEAVING && !a->end.term) {
		/* Slurm has had its time */
		a->end.term = true;
		loop_timer_set(&a->loop, &a->end.limit, now_us() + LEAVE_LAST, on_limit, a);
		end_check(a);
		return;
	}
	a->loop.quit = true;
}

/* Slurm is asked in any case: it may have requeued the job in the moment in which its script ended. */
static void begin_ending(struct agent *a, int status)
{
	a->end.itself = a->start.ran && ended_how(status) == ENDED_ITSELF && a->rec.intent == INTENT_RUNNING &&
			!a->end.comes_back && !rpc_running(&a->end.get);
	a->phase = PHASE_ENDING;
	a->end.status = status;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, on_limit, a);
	op_cancel(a, "the job has ended");
	sched_stop(a);
	notice_stop(a);
	requests_stop(a);
	if (!a->start.ran)
		return;
	record(a, END_UNKNOWN);
	if (a->end.comes_back)
		publish_end(a);
	else
		ask_meaning(a);
}

void end_script(struct agent *a, int status)
{
	char text[80];

	/* the first pod ends when a restored one has taken its place, or none will */
	if (a->phase != PHASE_RUNNING && a->phase != PHASE_STARTING)
		return;
	describe_status(status, text, sizeof(text));
	job_log(a, "%s", text);
	begin_ending(a, status);
	end_check(a);
}

/* The script's process, which waits at the gate, writes the text into the job's output. */
void end_as_before(struct agent *a)
{
	struct status *s = &a->pub.status;
	char how[80], answer[700];

	describe_status(a->rec.status, how, sizeof(how));
	snprintf(s->error, sizeof(s->error), "not run again: %s on node %.100s, and Slurm had not heard of it", how,
		 a->rec.host);
	job_log(a, "%s; the job ends with this status", s->error);
	snprintf(answer, sizeof(answer),
		 "exit fsched: job %u is %s. The job ends now with this status. To run it again: scontrol requeue %u",
		 a->task.job_id, s->error, a->task.job_id);
	a->phase = PHASE_ENDING;
	a->end.status = a->rec.status;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + END_LIMIT, on_limit, a);
	gate_answer(a, answer);
	publish_state(a, "ended");
	end_check(a);
}

void end_unstarted(struct agent *a, const char *why)
{
	job_log(a, "the job cannot be started: %s", why);
	begin_ending(a, 1 << 8);
	end_check(a);
}

void end_pod_died(struct agent *a, int status)
{
	if (a->phase == PHASE_RESTORING) {
		/* its script's process was only waiting; starting over is not possible any more */
		log_warn("the process that waited to start the job over has ended");
		return;
	}
	if (a->phase != PHASE_RUNNING && a->phase != PHASE_STARTING)
		return;
	if (WIFSIGNALED(status))
		job_log(a, "the pod was killed by signal %d from outside; the job has failed", WTERMSIG(status));
	else
		job_log(a, "the pod ended unexpectedly (status %d); the job has failed", WEXITSTATUS(status));
	begin_ending(a, SIGKILL);
	end_check(a);
}

/* ---- the agent's end ---- */

void end_leave(struct agent *a)
{
	a->phase = PHASE_LEAVING;
	a->end.status = 0;
	loop_timer_set(&a->loop, &a->end.limit, now_us() + LEAVE_LIMIT, on_limit, a);
	end_check(a);
}

/* The lease is the last thing that goes. */
static bool lease_over(struct agent *a)
{
	written_stop(a);
	if (!lease_idle(a))
		lease_end(a);
	return lease_idle(a);
}

static bool nothing_under_way(const struct agent *a)
{
	return publish_idle(a) && requests_idle(a) && !proc_running(&a->prune) && !a->op.active && !a->pod.init;
}

void end_check(struct agent *a)
{
	if (a->phase == PHASE_LEAVING && a->end.term && nothing_under_way(a) && lease_over(a))
		a->loop.quit = true;
	if (a->phase == PHASE_ENDING && !rpc_running(&a->end.get) && nothing_under_way(a) && lease_over(a))
		a->loop.quit = true;
}

void end_finish(struct agent *a)
{
	signals_stop(&a->signals);
	if (a->pod.init)
		pod_kill(a->pod.init, 2000, NULL);
	written_stop(a);
	pod_cleanup(a->pod.dir);
}

/* As the script did: exit status, or death by the same signal, without a core of ours. */
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
