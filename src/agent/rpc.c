#include "agent/rpc.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/util.h"

static void rpc_on_line(void *arg, char *line)
{
	struct rpc *r = arg;
	json_error_t je;
	json_t *o = json_loads(line, 0, &je);

	if (!json_is_object(o)) {
		json_decref(o);
		return;
	}
	json_decref(r->answer);
	r->answer = o;
}

static void rpc_explain(struct rpc *r, int status, bool timed_out)
{
	const char *text = json_string_value(json_object_get(r->answer, "error"));

	if (text)
		snprintf(r->error, sizeof(r->error), "%s", text);
	else if (timed_out)
		snprintf(r->error, sizeof(r->error), "slurmctld did not answer in time");
	else if (WIFSIGNALED(status))
		snprintf(r->error, sizeof(r->error), "fsched-slurm was killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 127)
		snprintf(r->error, sizeof(r->error),
			 "fsched-slurm cannot be run: is fsched installed completely on this node?");
	else
		snprintf(r->error, sizeof(r->error), "fsched-slurm ended with status %d and no explanation",
			 WEXITSTATUS(status));
}

static void rpc_finish(struct rpc *r, bool ok)
{
	json_t *answer = r->answer;

	/* done() may start the next call in the same struct */
	r->answer = NULL;
	r->done(r->arg, ok, answer, r->error);
	json_decref(answer);
}

static void rpc_on_end(void *arg, int status)
{
	struct rpc *r = arg;
	bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0 && r->answer;

	if (!ok)
		rpc_explain(r, status, r->proc.timed_out);
	rpc_finish(r, ok);
}

static void rpc_on_failed(void *arg)
{
	rpc_finish(arg, false);
}

void rpc_start(struct loop *l, struct rpc *r, const char *libexec, int timeout_s, const char *op, uint32_t job_id,
	       const char *arg, void (*done)(void *, bool, const json_t *, const char *), void *done_arg)
{
	cleanup_free char *path = xasprintf("%s/fsched-slurm", libexec);
	cleanup_free char *op_copy = xstrdup(op), *arg_copy = arg ? xstrdup(arg) : NULL;
	char id[16];
	char *argv[] = { path, op_copy, id, arg_copy, NULL };
	struct proc_spec s = {
		.argv = argv, .keep_fd = -1, .timeout_s = timeout_s, .on_line = rpc_on_line, .on_end = rpc_on_end, .arg = r
	};
	struct err err;

	snprintf(id, sizeof(id), "%u", job_id);
	memset(r, 0, sizeof(*r));
	r->loop = l;
	r->done = done;
	r->arg = done_arg;
	if (proc_start(l, &r->proc, &s, &err) == 0)
		return;
	snprintf(r->error, sizeof(r->error), "%.500s", err.text);
	loop_timer_set(l, &r->failed, now_us(), rpc_on_failed, r);
}

void rpc_forget(struct rpc *r)
{
	if (r->loop)
		loop_timer_clear(r->loop, &r->failed);
	proc_forget(&r->proc);
	json_decref(r->answer);
	r->answer = NULL;
}
