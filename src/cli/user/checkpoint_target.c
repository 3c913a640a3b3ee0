#include "cli/user/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/inside.h"
#include "cli/user/interrupt.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"

/* How long to wait for the agent's address after the job has started: slurmd's prolog, the start of the pod and one RPC
 * take place between RUNNING and its publication. */
#define AGENT_WAIT_US  15000000
#define AGENT_YOUNG_S  60

#define PAUSE_FIRST_MS 200
#define PAUSE_MAX_MS   2000

int target_fail(struct target *t, const char *fmt, ...)
{
	va_list ap;

	cleanup_free char *text = NULL;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	progress_end(&t->progress);
	/* errors of slurm_rpc.h name the job themselves */
	if (text && strncmp(text, "job ", 4) == 0)
		cli_error("checkpoint", "%s", text);
	else
		cli_error("checkpoint", "%s: %s", t->label, text ? text : "out of memory");
	return CLI_FAILED;
}

void target_say(const struct request *r, struct target *t, const char *fmt, ...)
{
	va_list ap;

	progress_end(&t->progress);
	if (r->quiet)
		return;
	printf("%s: ", t->label);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void target_goes_on(const struct target *t, const char *what)
{
	interrupt_says("%s: %s goes on without this command; check with: scontrol show job %s | grep Checkpoint",
		       t->label, what, t->job.label);
}

struct sent {
	const struct target *t;
	const char *op;
};

static void on_sent(void *arg)
{
	const struct sent *s = arg;

	if (strcmp(s->op, "create") == 0 || strcmp(s->op, "vacate") == 0)
		target_goes_on(s->t, s->op);
}

void target_pause(struct target *t, unsigned *round)
{
	unsigned ms = PAUSE_FIRST_MS << (*round / 5 < 4 ? *round / 5 : 4);

	if (ms > PAUSE_MAX_MS)
		ms = PAUSE_MAX_MS;
	(*round)++;
	for (unsigned done = 0; done < ms; done += 100) {
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
		progress_tick(&t->progress);
	}
}

void target_free(struct target *t)
{
	rpc_job_free(&t->job);
	memset(&t->job, 0, sizeof(t->job));
}

int target_load(struct target *t, struct err *err)
{
	struct slurm_job job;
	struct err why;

	memset(&job, 0, sizeof(job));
	if (rpc_job_load(t->id, &job, err) < 0)
		return -1;
	target_free(t);
	t->job = job;
	snprintf(t->label, sizeof(t->label), "job %s", *job.label ? job.label : "?");
	snprintf(t->progress.label, sizeof(t->progress.label), "%.40s", t->label);
	memset(&t->status, 0, sizeof(t->status));
	t->enabled = status_parse(job.admin_comment, &t->status, &why) == 0;
	return 0;
}

int target_check_user(const struct request *r, const struct target *t, struct err *err)
{
	uid_t me = geteuid();

	if (me == 0 || me == t->job.uid || me == r->slurm_user)
		return 0;
	return err_set(err, EPERM,
		       "permission denied: it belongs to uid %u; only its owner, root and SlurmUser may do this",
		       (unsigned)t->job.uid);
}

int target_check_enabled(const struct target *t, struct err *err)
{
	if (t->job.het_id)
		return err_set(err, 0, "is part of a heterogeneous job; these cannot be checkpointed");
	if (!t->job.batch)
		return err_set(err, 0, "is not a batch job; only jobs submitted by sbatch can be checkpointed");
	if (!t->enabled)
		return err_set(
			err, 0,
			"is not checkpoint-enabled: it was submitted without --checkpoint, which cannot be added later");
	return 0;
}

/* Follows policy/recovery.c: a note in the Comment takes precedence, and a job whose script has ended or that was
 * requeued starts from the beginning. */
const char *target_next_start(const struct target *t, char *buf, size_t len)
{
	unsigned epoch = rpc_comment_epoch(t->job.comment);

	if (epoch == RPC_EPOCH_LATEST || (!epoch && t->status.state != STATUS_ENDED && t->status.state != STATUS_ENABLED))
		epoch = t->status.epoch;
	if (epoch)
		snprintf(buf, len, "continue from epoch %u", epoch);
	else
		snprintf(buf, len, "start from the beginning");
	return buf;
}

int target_check_running(const struct target *t, const char *verb, struct err *err)
{
	const struct slurm_job *j = &t->job;
	char next[48];

	if (j->finished)
		return err_set(err, 0, "has ended (%s); there is nothing left to be %s", j->state, verb);
	if (j->suspended)
		return err_set(err, 0, "is suspended and cannot be %s now; first: scontrol resume %s", verb, j->label);
	if (j->pending && !j->held && t->status.epoch)
		return err_set(err, 0, "is waiting to start (%s) and will %s; it cannot be %s before it runs",
			       *j->reason ? j->reason : "no reason given", target_next_start(t, next, sizeof(next)),
			       verb);
	if (j->pending && t->status.state == STATUS_VACATED)
		return err_set(err, 0,
			       "is vacated already, at epoch %u; continue it with: scontrol checkpoint restart %s",
			       t->status.epoch, j->label);
	if (j->pending && j->held && t->status.epoch)
		return err_set(err, 0,
			       "is held and does not run; it can continue from epoch %u: scontrol checkpoint restart %s",
			       t->status.epoch, j->label);
	if (j->pending && j->array_id && j->array_task == RPC_NO_TASK)
		return err_set(err, 0, "these tasks wait to start and cannot be %s before they run", verb);
	if (j->pending)
		return err_set(err, 0, "is pending and cannot be %s before it runs", verb);
	if (!j->running || j->completing)
		return err_set(err, 0, "does not run (%s%s) and cannot be %s", j->state,
			       j->completing ? ", COMPLETING" : "", verb);
	return 0;
}

int target_check_outside(const struct target *t, struct err *err)
{
	return inside_job() == t->id
		       ? err_set(err, 0, "a job cannot checkpoint itself; send the request from outside of the job")
		       : 0;
}

static int target_find_agent(struct target *t, struct err *err)
{
	int64_t until = now_us() + AGENT_WAIT_US;
	unsigned round = 0;

	while (!*t->status.agent) {
		bool young = t->job.start_time == 0 || time(NULL) - t->job.start_time < AGENT_YOUNG_S;

		if (!young || now_us() > until)
			return err_set(
				err, 0,
				"no agent serves it on node %s: it has not started there, or was killed (%s%s); see syslog on the node",
				t->job.batch_host, *t->status.error ? "last error: " : "no error is known",
				t->status.error);
		progress_doing(&t->progress, "waiting for the agent");
		target_pause(t, &round);
		if (target_load(t, err) < 0)
			return -1;
		if (!t->job.running)
			return err_set(err, 0, "does not run any more (%s)", t->job.state);
	}
	return 0;
}

/* Reloads the job. True: it has another node or agent than before, so another attempt may succeed. */
static bool target_has_moved(struct target *t)
{
	char host[sizeof(t->job.batch_host)], agent[sizeof(t->status.agent)];

	memcpy(host, t->job.batch_host, sizeof(host));
	memcpy(agent, t->status.agent, sizeof(agent));
	if (target_load(t, NULL) < 0 || !t->job.running)
		return false;
	return strcmp(host, t->job.batch_host) != 0 || strcmp(agent, t->status.agent) != 0;
}

static enum client_outcome target_ask_once(const struct request *r, struct target *t, const char *op, json_t **result,
					   struct err *err)
{
	char addr[256];
	struct sent sent = { t, op };
	struct client_target c = { .node = t->job.batch_host,
				   .host = addr,
				   .munge_socket = r->munge_socket,
				   .job_id = t->id,
				   .on_sent = on_sent,
				   .arg = &sent };

	*result = NULL;
	if (target_find_agent(t, err) < 0)
		return CLIENT_NOT_SENT;
	if (rpc_node_addr(t->job.batch_host, addr, sizeof(addr), NULL) < 0)
		snprintf(addr, sizeof(addr), "%s", t->job.batch_host);
	c.port = t->status.agent;
	c.uuid = t->status.uuid;
	progress_doing(&t->progress, "asking the agent");
	return client_request(&c, op, r->timeout_s, &t->progress, result, err);
}

static void err_add(struct err *err, const char *text)
{
	size_t len = strlen(err->text);

	snprintf(err->text + len, sizeof(err->text) - len, "%s", text);
}

enum client_outcome target_ask(const struct request *r, struct target *t, const char *op, json_t **result, struct err *err)
{
	enum client_outcome o = target_ask_once(r, t, op, result, err);

	if (o == CLIENT_NO_AGENT) {
		if (target_has_moved(t))
			o = target_ask_once(r, t, op, result, err);
		else if (!t->job.running)
			err_set(err, 0, "does not run any more (%s)", t->job.state);
		else
			err_add(err, "; it was killed, or the job is just ending");
	}
	return o;
}
