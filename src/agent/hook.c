#include "agent/hook.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/util.h"
#include "pod/pod_command.h"

#define HOOK_PROC_MARGIN 10 /* s, behind the limit that the command's supervisor keeps */

static unsigned hook_signal_seconds(const struct hook *h)
{
	const unsigned wanted = h->job->task.hook_seconds, most = h->job->conf.hook_time;

	return wanted < most ? wanted : most;
}

bool hook_has_before(const struct hook *h)
{
	return h->job->task.hook_signal || *h->job->task.hook_before;
}

unsigned hook_seconds_before(const struct hook *h)
{
	return (h->job->task.hook_signal ? hook_signal_seconds(h) : 0) +
	       (*h->job->task.hook_before ? h->job->conf.hook_time : 0);
}

/* ---- the command ---- */

/* In a child. Its line is for hook_on_line(). */
static int hook_main(void *arg, int out)
{
	const struct hook *h = arg;
	const struct task *t = &h->job->task;
	cleanup_free char *epoch = xasprintf("FSCHED_EPOCH=%u", h->epoch), *node = xasprintf("FSCHED_NODE=%s", t->node);
	const char *variables[] = { epoch, node, NULL };
	const struct pod_command c = {
		.init = h->pod->init,
		.script = h->pod->script ? (pid_t)proc_number(h->pod->script, "NSpid", 0) : 0,
		.cred = { .uid = t->uid, .gid = t->gid, .groups = t->groups, .n_groups = t->n_groups },
		.text = h->before ? t->hook_before : t->hook_after,
		.dir = t->cwd,
		.variables = variables,
		.limit_s = h->job->conf.hook_time,
	};
	struct pod_command_outcome o;
	struct err err;
	int n;

	if (pod_command_run(&c, &o, &err))
		n = dprintf(out, "was not run: %s\n", err.text);
	else if (o.how == POD_COMMAND_LATE)
		n = dprintf(out, "was killed after %u s (CheckpointHookTime)\n", c.limit_s);
	else if (o.how == POD_COMMAND_CUT)
		n = dprintf(out, "was cut short: the job is to leave its node\n");
	else if (WIFSIGNALED(o.status))
		n = dprintf(out, "was killed by signal %d\n", WTERMSIG(o.status));
	else if (WEXITSTATUS(o.status))
		n = dprintf(out, "ended with exit status %d\n", WEXITSTATUS(o.status));
	else
		n = dprintf(out, "ok\n");
	return n < 0;
}

static void hook_report(struct hook *h, const char *what)
{
	job_log(h->job, "warning: the job's command %s epoch %u (--checkpoint-%s) %s",
		h->before ? "before" : "after the restore of", h->epoch, h->before ? "before" : "after", what);
}

static void hook_on_line(void *arg, char *line)
{
	struct hook *h = arg;

	h->ended = true;
	if (strcmp(line, "ok") != 0)
		hook_report(h, line);
}

static void hook_finish(struct hook *h)
{
	void (*done)(void *arg) = h->done;

	h->done = NULL;
	if (done)
		done(h->arg);
}

static void hook_on_end(void *arg, int status)
{
	struct hook *h = arg;

	if (!h->ended)
		hook_report(h, "was ended before it was through");
	hook_finish(h);
}

static void hook_run(struct hook *h)
{
	struct proc_spec s = { .main = hook_main,
			       .main_arg = h,
			       .talk = true,
			       .keep_fd = -1,
			       .timeout_s = (int)h->job->conf.hook_time + HOOK_PROC_MARGIN,
			       .on_line = hook_on_line,
			       .on_end = hook_on_end,
			       .arg = h };
	struct err err;

	h->ended = false;
	if (proc_start(h->job->loop, &h->proc, &s, &err) == 0)
		return;
	hook_report(h, err.text);
	hook_finish(h);
}

/* ---- before and after ---- */

static void hook_on_pause(void *arg)
{
	struct hook *h = arg;

	loop_timer_clear(h->job->loop, &h->pause);
	if (*h->job->task.hook_before)
		hook_run(h);
	else
		hook_finish(h);
}

void hook_before(struct hook *h, unsigned epoch, void (*done)(void *arg), void *arg)
{
	const struct task *t = &h->job->task;
	unsigned pause = 0;

	hook_stop(h);
	h->before = true;
	h->epoch = epoch;
	h->done = done;
	h->arg = arg;
	if (t->hook_signal) {
		pause = hook_signal_seconds(h);
		if (!pod_watch_notify(h->pod, t->hook_signal, t->hook_script, t->uid)) {
			log_info("no process of the job handles signal %d (--checkpoint-signal), so none gets it",
				 t->hook_signal);
			pause = 0;
		}
	}
	loop_timer_set(h->job->loop, &h->pause, now_us() + pause * INT64_C(1000000), hook_on_pause, h);
}

void hook_after(struct hook *h, unsigned epoch)
{
	if (!*h->job->task.hook_after)
		return;
	hook_stop(h);
	h->before = false;
	h->epoch = epoch;
	hook_run(h);
}

void hook_hurry(struct hook *h)
{
	if (!h->done)
		return;
	if (proc_running(&h->proc))
		proc_send(&h->proc, "end");
	if (h->pause.at) {
		/* the command is left out, too */
		loop_timer_clear(h->job->loop, &h->pause);
		hook_finish(h);
	}
}

void hook_stop(struct hook *h)
{
	h->done = NULL;
	proc_forget(&h->proc);
	loop_timer_clear(h->job->loop, &h->pause);
}
