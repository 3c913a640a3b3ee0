/* fsched-slurm: one RPC to slurmctld in a process of its own, so that a slow controller never blocks the agent.
 *
 *   fsched-slurm [--timeout S] OP JOBID [ARG]
 *
 *   get
 *       Prints the job's record, the address of its node, SlurmUser and KillWait.
 *
 *   publish [STATUS]
 *       STATUS (or standard input) becomes the Checkpoint entry of the job: a
 *       rendered one (base/status.h), or a JSON object with members of struct
 *       status, of which only those given change. The entry is left unchanged
 *       if the job runs and has been started again since the restart
 *       FSCHED_RESTART_COUNT of the environment: the caller was cut off from
 *       the network, and its news are old. Fails if the job does not run on
 *       the node FSCHED_BATCH_HOST of the environment.
 *
 *   take-restart-epoch
 *       Prints {"epoch":N, "vacated":bool, "saved":bool, "moved":bool,
 *       "ended":bool, "tried":TEXT} and removes the requested epoch from the
 *       job's Comment.
 *       epoch    asked for by the owner; 0 = none, -1 = the latest, -2 = the
 *                job has requeued itself, to start over
 *       vacated  the entry says that the job was vacated or held
 *       saved    it says that the job has an epoch and was running
 *       moved    it says that the job was being restored
 *       ended    it says that the job had ended
 *       tried    nodes that could not restore the job
 *
 *   check-option {"uuid":U,"interval":N,"dir":PATH}
 *       Is this the option of the job (option_check.c)? Prints {"ok":true} or
 *       {"why":TEXT}.
 *
 *   move {"node":NAME,"epoch":N,"error":TEXT}
 *       Moves the job to another node (rpc_move()). A failure also has
 *       "final":bool.
 *
 *   outlook
 *       Prints {"grace":S, "preempt_time":UNIX, "end_time":UNIX}.
 *
 *   start-over, start-over-not
 *       Notes in the job's Comment that its next start is from the beginning,
 *       or removes this note. For a job that requeues itself: the shim of
 *       scontrol calls it in the job.
 *
 *   requeue, requeue-hold, requeue-soon, release
 *       See slurm_rpc.h.
 *
 * JOBID is 12 or 12_3. Prints one line, a JSON object; after a failure it has "error", whose text is also printed on
 * standard error. Exit status: 0 done, 1 failed, 2 wrong usage. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <jansson.h>

#include "base/io.h"
#include "base/util.h"
#include "slurm/rpc/option_check.h"
#include "slurm/rpc/slurm_rpc.h"
#include "base/interval.h"
#include "base/json.h"

#define TIMEOUT_DEFAULT 20
#define STATUS_MAX      65536

static char timeout_text[160], timeout_json[192];

/* ---- answers ------------------------------------------------------------ */

static int print_object(json_t *object)
{
	cleanup_free char *line = json_dumps(object, JSON_COMPACT);

	json_decref(object);
	if (!line || puts(line) < 0 || fflush(stdout))
		return 1;
	return 0;
}

static int print_error(const char *error)
{
	print_object(json_pack("{s:o}", "error", json_text(error)));
	fprintf(stderr, "fsched-slurm: %s\n", error);
	return 1;
}

static int print_ok(void)
{
	return print_object(json_pack("{s:b}", "ok", 1));
}

static void on_alarm(int sig)
{
	ssize_t n = write(STDOUT_FILENO, timeout_json, strlen(timeout_json));

	n = write(STDERR_FILENO, timeout_text, strlen(timeout_text));
	(void)n;
	_exit(1);
}

static void limit_time(unsigned seconds, const char *op, const char *job)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	sigset_t set;

	snprintf(timeout_text, sizeof(timeout_text),
		 "fsched-slurm: %s job %.32s: slurmctld did not answer within %u s\n", op, job, seconds);
	snprintf(timeout_json, sizeof(timeout_json),
		 "{\"error\":\"%s job %.32s: slurmctld did not answer within %u s\"}\n", op, job, seconds);
	sigaction(SIGALRM, &sa, NULL);
	/* the agent blocks all signals, and its children inherit the mask */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	alarm(seconds);
}

/* ---- get ---------------------------------------------------------------- */

static json_t *status_object(const char *admin_comment)
{
	struct status s;

	if (status_parse(admin_comment, &s, NULL))
		return json_null();
	return json_pack("{s:o, s:I, s:i, s:I, s:I, s:I, s:I, s:o, s:i, s:i, s:o, s:o, s:o}", "state",
			 json_text(status_state_text(&s)), "interval", (json_int_t)s.interval, "epoch", (int)s.epoch,
			 "epoch_time", (json_int_t)s.epoch_time, "bytes", (json_int_t)s.bytes, "frozen_us",
			 (json_int_t)s.frozen_us, "total_us", (json_int_t)s.total_us, "kept", json_text(s.kept),
			 "skipped", (int)s.skipped, "restored", (int)s.restored, "error", json_text(s.error), "uuid",
			 json_text(s.uuid), "agent", json_text(s.agent));
}

static json_t *job_object(const struct slurm_job *j)
{
	return json_pack(
		"{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:I, s:o, s:o, s:i, s:I, s:I, s:I, "
		"s:o, s:o, s:o, s:b}",
		"job_id", (json_int_t)j->id, "label", j->label, "array_job_id", (json_int_t)j->array_id, "array_task_id",
		(json_int_t)j->array_task, "het_job_id", (json_int_t)j->het_id, "uid", (json_int_t)j->uid, "gid",
		(json_int_t)j->gid, "state", j->state, "pending", (int)j->pending, "running", (int)j->running,
		"suspended", (int)j->suspended, "finished", (int)j->finished, "completing", (int)j->completing, "held",
		(int)j->held, "batch", (int)j->batch, "requeue", (int)j->requeue, "priority", (json_int_t)j->priority,
		"reason", json_text(j->reason), "batch_host", json_text(j->batch_host), "restart_count",
		(int)j->restart_count, "start_time", (json_int_t)j->start_time, "end_time", (json_int_t)j->end_time,
		"preempt_time", (json_int_t)j->preempt_time, "admin_comment", json_text(j->admin_comment), "comment",
		json_text(j->comment), "status", status_object(j->admin_comment), "start_over",
		(int)(rpc_comment_epoch(j->comment) == RPC_EPOCH_NONE));
}

static int op_get(struct slurm_job *job, struct err *err)
{
	json_t *o = job_object(job);
	char addr[256] = "";
	struct rpc_settings settings;

	if ((*job->batch_host && rpc_node_addr(job->batch_host, addr, sizeof(addr), err)) ||
	    rpc_settings(&settings, err)) {
		json_decref(o);
		return -1;
	}
	json_object_set_new(o, "node_addr", json_text(addr));
	json_object_set_new(o, "slurm_uid", json_integer(settings.slurm_user));
	json_object_set_new(o, "kill_wait", json_integer(settings.kill_wait));
	return print_object(o);
}

/* ---- publish ------------------------------------------------------------ */

struct merge {
	const json_t *from;
	struct err *err;
	bool failed;
};

static const json_t *merge_member(struct merge *m, const char *key, int type)
{
	const json_t *v = m->failed ? NULL : json_object_get(m->from, key);

	if (v && (int)json_typeof(v) != type) {
		m->failed = true;
		err_set(m->err, EINVAL, "status: \"%s\" is not %s", key, type == JSON_STRING ? "a string" : "an integer");
		return NULL;
	}
	return v;
}

static void merge_text(struct merge *m, const char *key, char *out, size_t len)
{
	const json_t *v = merge_member(m, key, JSON_STRING);

	if (v)
		snprintf(out, len, "%s", json_string_value(v));
}

static int64_t merge_range(struct merge *m, const char *key, int64_t old, int64_t min, int64_t max)
{
	const json_t *v = merge_member(m, key, JSON_INTEGER);

	if (!v)
		return old;
	if (json_integer_value(v) < min || json_integer_value(v) > max) {
		m->failed = true;
		err_set(m->err, EINVAL, "status: \"%s\" is out of range", key);
		return old;
	}
	return json_integer_value(v);
}

static int64_t merge_int(struct merge *m, const char *key, int64_t old, int64_t max)
{
	return merge_range(m, key, old, 0, max);
}

static int merge_status(struct status *s, const json_t *from, struct err *err)
{
	struct merge m = { from, err, false };
	char state[sizeof(s->unknown_state)];

	snprintf(state, sizeof(state), "%s", status_state_text(s));
	merge_text(&m, "state", state, sizeof(state));
	status_set_state(s, state);
	s->interval = merge_range(&m, "interval", s->interval, INTERVAL_AUTO, INT_MAX);
	s->every = merge_int(&m, "every", s->every, INT_MAX);
	s->epoch = (unsigned)merge_int(&m, "epoch", s->epoch, INT_MAX);
	s->epoch_time = merge_int(&m, "epoch_time", s->epoch_time, INT64_MAX);
	s->bytes = (uint64_t)merge_int(&m, "bytes", (int64_t)s->bytes, INT64_MAX);
	s->frozen_us = merge_int(&m, "frozen_us", s->frozen_us, INT64_MAX);
	s->total_us = merge_int(&m, "total_us", s->total_us, INT64_MAX);
	merge_text(&m, "memory", s->memory, sizeof(s->memory));
	merge_text(&m, "kept", s->kept, sizeof(s->kept));
	s->skipped = (unsigned)merge_int(&m, "skipped", s->skipped, INT_MAX);
	s->used = merge_int(&m, "used", s->used, INT_MAX);
	s->failed = (unsigned)merge_int(&m, "failed", s->failed, INT_MAX);
	s->failed_since = merge_int(&m, "failed_since", s->failed_since, INT64_MAX);
	s->restored = (unsigned)merge_int(&m, "restored", s->restored, INT_MAX);
	merge_text(&m, "error", s->error, sizeof(s->error));
	merge_text(&m, "uuid", s->uuid, sizeof(s->uuid));
	merge_text(&m, "agent", s->agent, sizeof(s->agent));
	merge_text(&m, "tried", s->tried, sizeof(s->tried));
	return m.failed ? -1 : 0;
}

static int parse_json_status(const char *input, const char *admin_comment, struct status *s, struct err *err)
{
	json_error_t je;
	json_t *from = json_loads(input, 0, &je);
	int rc;

	if (!json_is_object(from)) {
		json_decref(from);
		return err_set(err, EINVAL, "the status is no JSON object: %s", je.text);
	}
	/* A missing or damaged entry is replaced by a new one. */
	if (status_parse(admin_comment, s, NULL))
		memset(s, 0, sizeof(*s));
	rc = merge_status(s, from, err);
	json_decref(from);
	return rc;
}

static bool started_since(const struct slurm_job *job)
{
	const char *restarts = getenv("FSCHED_RESTART_COUNT");

	return restarts && (job->running || job->suspended) && job->restart_count > strtoul(restarts, NULL, 10);
}

static bool runs_on(const struct slurm_job *job, const char *host)
{
	return (job->running || job->suspended) && !strcmp(job->batch_host, host);
}

static int op_publish(const struct slurm_job *job, const char *arg, struct err *err)
{
	cleanup_free char *input = NULL;
	const char *host = getenv("FSCHED_BATCH_HOST");
	struct status s;
	int rc;

	if (host && !runs_on(job, host))
		return err_set(err, ESRCH, "job %s does not run on node %s any more", job->label, host);
	if (started_since(job))
		return print_ok();
	if (!arg && read_all(STDIN_FILENO, STATUS_MAX, &input) < 0)
		return err_sys(err, errno, "cannot read the status from standard input");
	if (!arg)
		arg = input;
	if (arg[strspn(arg, " \n")] == '{')
		rc = parse_json_status(arg, job->admin_comment, &s, err);
	else
		rc = status_parse(arg, &s, err);
	if (rc || rpc_publish(job->id, &s, err))
		return -1;
	return print_ok();
}

/* ---- main --------------------------------------------------------------- */

static bool entry_was_running(const struct status *s)
{
	return s->state == STATUS_RUNNING || s->state == STATUS_RESTORING || s->state == STATUS_PREEMPTED ||
	       s->state == STATUS_REQUEUED;
}

static json_int_t requested_epoch(unsigned epoch)
{
	return epoch == RPC_EPOCH_LATEST ? -1 : epoch == RPC_EPOCH_NONE ? -2 : (json_int_t)epoch;
}

static int op_take_epoch(const struct slurm_job *job, struct err *err)
{
	struct status s;
	bool known = status_parse(job->admin_comment, &s, NULL) == 0;
	bool vacated = known && (s.state == STATUS_VACATED || s.state == STATUS_HELD);
	unsigned epoch;

	if (rpc_take_epoch(job->id, &epoch, err))
		return -1;
	return print_object(json_pack("{s:I, s:b, s:b, s:b, s:b, s:o}", "epoch", requested_epoch(epoch), "vacated",
				      (int)vacated, "saved", known && s.epoch > 0 && entry_was_running(&s), "moved",
				      known && s.state == STATUS_RESTORING, "ended", known && s.state == STATUS_ENDED,
				      "tried", json_text(known ? s.tried : "")));
}

static int op_move(const struct slurm_job *job, const char *arg, struct err *err)
{
	json_error_t je;
	json_t *o = json_loads(arg ? arg : "", 0, &je), *said;
	json_int_t epoch = json_integer_value(json_object_get(o, "epoch"));
	struct rpc_move m = {
		.node = json_string_value(json_object_get(o, "node")),
		.error = json_string_value(json_object_get(o, "error")),
		.epoch = epoch == -1   ? RPC_EPOCH_LATEST
			 : epoch == -2 ? RPC_EPOCH_NONE
				       : (unsigned)epoch,
	};
	bool final = true;
	int rc;

	if (!m.node || !m.error)
		rc = err_set(err, EINVAL, "move: the argument is no JSON object with node and error");
	else
		rc = rpc_move(job->id, &m, &final, err);
	json_decref(o);
	if (rc == 0)
		return print_ok();
	said = json_pack("{s:o, s:b}", "error", json_text(err->text), "final", (int) final);
	print_object(said);
	return 1;
}

static int op_outlook(const struct slurm_job *job, struct err *err)
{
	int64_t grace;

	if (rpc_outlook(job, &grace, err))
		return -1;
	return print_object(json_pack("{s:I, s:I, s:I}", "grace", (json_int_t)grace, "preempt_time",
				      (json_int_t)job->preempt_time, "end_time", (json_int_t)job->end_time));
}

static int op_check_option(const struct slurm_job *job, const char *arg, struct err *err)
{
	json_t *o = json_loads(arg ? arg : "", 0, NULL);
	const char *uuid = json_string_value(json_object_get(o, "uuid")),
		   *dir = json_string_value(json_object_get(o, "dir"));
	struct err why;
	int rc;

	if (!uuid || !dir)
		rc = err_set(err, EINVAL, "check-option: the argument is no JSON object with uuid, interval and dir");
	else if (option_check(job, uuid, json_integer_value(json_object_get(o, "interval")), dir, &why))
		rc = print_object(json_pack("{s:o}", "why", json_text(why.text)));
	else
		rc = print_ok();
	json_decref(o);
	return rc;
}

static int run_op(const char *op, struct slurm_job *job, const char *arg, struct err *err)
{
	if (!strcmp(op, "get"))
		return op_get(job, err);
	if (!strcmp(op, "publish"))
		return op_publish(job, arg, err);
	if (!strcmp(op, "take-restart-epoch"))
		return op_take_epoch(job, err);
	if (!strcmp(op, "requeue-soon"))
		return rpc_requeue_soon(job->id, err) ? -1 : print_ok();
	if (!strcmp(op, "move"))
		return op_move(job, arg, err);
	if (!strcmp(op, "check-option"))
		return op_check_option(job, arg, err);
	if (!strcmp(op, "outlook"))
		return op_outlook(job, err);
	if (!strcmp(op, "start-over"))
		return rpc_request_epoch(job->id, RPC_EPOCH_NONE, err) ? -1 : print_ok();
	if (!strcmp(op, "start-over-not"))
		return rpc_request_epoch(job->id, 0, err) ? -1 : print_ok();
	if (!strcmp(op, "release"))
		return rpc_release(job->id, err) ? -1 : print_ok();
	return rpc_requeue(job->id, !strcmp(op, "requeue-hold"), err) ? -1 : print_ok();
}

static bool takes_arg(const char *op)
{
	return !strcmp(op, "publish") || !strcmp(op, "move") || !strcmp(op, "check-option");
}

/* Parses the whole number between from and to, without sign or blanks, up to max. */
static bool parse_number(const char *from, const char *to, unsigned long max, unsigned long *out)
{
	unsigned long n = 0;

	if (from == to || to - from > 10)
		return false;
	for (; from < to; from++) {
		if (*from < '0' || *from > '9')
			return false;
		n = n * 10 + (unsigned long)(*from - '0');
	}
	*out = n;
	return n <= max;
}

static int load_job(const char *id, struct slurm_job *job, struct err *err)
{
	const char *bar = strchr(id, '_'), *end = id + strlen(id);
	unsigned long array, task;

	if (!parse_number(id, bar ? bar : end, UINT32_MAX - 1, &array) || array == 0 ||
	    (bar && !parse_number(bar + 1, end, UINT32_MAX - 1, &task)))
		return err_set(err, EINVAL, "\"%.32s\" is no job id", id);
	return bar ? rpc_job_load_task((uint32_t)array, (uint32_t)task, job, err)
		   : rpc_job_load((uint32_t)array, job, err);
}

static bool known_op(const char *op)
{
	static const char *const ops[] = { "get",          "publish",      "take-restart-epoch",
					   "requeue",      "requeue-hold", "requeue-soon",
					   "release",      "move",         "outlook",
					   "check-option", "start-over",   "start-over-not" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (!strcmp(op, ops[i]))
			return true;
	return false;
}

static int print_usage(void)
{
	fputs("usage: fsched-slurm [--timeout S] get|take-restart-epoch|requeue|requeue-hold|requeue-soon|release|outlook JOBID\n"
	      "       fsched-slurm [--timeout S] start-over|start-over-not JOBID\n"
	      "       fsched-slurm [--timeout S] publish JOBID [STATUS]\n"
	      "       fsched-slurm [--timeout S] move JOBID {\"node\":NAME,\"epoch\":N,\"error\":TEXT}\n"
	      "       fsched-slurm [--timeout S] check-option JOBID {\"uuid\":U,\"interval\":N,\"dir\":PATH}\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned long seconds = TIMEOUT_DEFAULT;
	struct slurm_job job;
	struct err err;
	int rc;

	if (argc > 2 && !strcmp(argv[1], "--timeout")) {
		if (!parse_number(argv[2], argv[2] + strlen(argv[2]), 86400, &seconds) || seconds == 0)
			return print_usage();
		argc -= 2;
		argv += 2;
	}
	if (argc < 3 || argc > 4 || !known_op(argv[1]) || (argc == 4 && !takes_arg(argv[1])))
		return print_usage();
	limit_time((unsigned)seconds, argv[1], argv[2]);
	rpc_init();
	if (load_job(argv[2], &job, &err))
		return print_error(err.text);
	rc = run_op(argv[1], &job, argv[3], &err);
	rpc_job_free(&job);
	return rc < 0 ? print_error(err.text) : rc;
}
