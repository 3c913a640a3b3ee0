#include "cli/qualify/cycle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "store/history.h"

#define CYCLE_TRIES       3
#define CYCLE_PAUSE_US    INT64_C(2000000) /* the most between two tries */
#define CYCLE_ENTRY_LOOKS 10
#define CYCLE_ENTRY_US    200000
#define CYCLE_LEAVE_S     180 /* for the end of a job that is killed, and for its way back into the queue */
#define CYCLE_OTHER_S     600 /* to wait for another node; then any will do */
#define CYCLE_EXIT_LATER  3   /* of `fsched checkpoint': it goes on by itself */

struct cycle {
	struct session *s;
	struct qualify_job *j;
	struct qualify_cycle *c;
	struct cycle_clock *k;
	unsigned restarts; /* of the job, before the failure */
};

int64_t cycle_run_time(const struct cycle_clock *k)
{
	return k->before + (k->since ? now_us() - k->since : 0);
}

static bool cycle_trouble(struct cycle *y, enum qualify_trouble t, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static bool cycle_trouble(struct cycle *y, enum qualify_trouble t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	y->c->trouble = session_trouble(y->s, t, y->c->why, sizeof(y->c->why), fmt, ap);
	va_end(ap);
	return false;
}

static bool cycle_job_is_over(struct cycle *y)
{
	return qualify_job_look(y->j, NULL) == 0 &&
	       (y->j->slurm.finished || (y->j->enabled && y->j->entry.state == STATUS_ENDED));
}

static bool cycle_ended(struct cycle *y, const char *before)
{
	return cycle_trouble(y, QUALIFY_ENDED, "the program ended before %s", before);
}

/* The number in "epoch N saved" and "vacated at epoch N". The job's entry may show it a moment later only. */
static unsigned cycle_read_epoch(const char *out)
{
	const char *word = strstr(out, "epoch ");
	unsigned epoch = 0;

	return word && sscanf(word, "epoch %u", &epoch) == 1 ? epoch : 0;
}

/* Runs fsched checkpoint OP ID. Returns its exit status; said: what it says of a failure; *epoch: which it names. */
static int cycle_ask(struct cycle *y, const char *op, int64_t limit_s, unsigned *epoch, char *said, size_t len)
{
	char id[16], limit[24], prefix[64];
	const char *conf = y->s->o->conf;
	char conf_option[] = "--conf";
	char *argv[] = { (char[]){ "/proc/self/exe" },
			 (char[]){ "checkpoint" },
			 (char *)(uintptr_t)op,
			 id,
			 (char[]){ "--timeout" },
			 limit,
			 conf ? conf_option : NULL,
			 (char *)(uintptr_t)conf,
			 NULL };
	struct command_result r;
	struct err err;
	int rc;

	snprintf(id, sizeof(id), "%u", y->j->id);
	snprintf(limit, sizeof(limit), "%" PRId64, limit_s);
	snprintf(prefix, sizeof(prefix), "fsched checkpoint: job %u: ", y->j->id);
	/* it has a limit of its own for each of its steps */
	rc = session_run(y->s, argv, 2 * limit_s + CYCLE_LEAVE_S, &r, &err);
	if (rc < 0)
		snprintf(said, len, "%.200s", err.text);
	else
		command_said(&r, prefix, said, len);
	*epoch = cycle_read_epoch(r.out);
	rc = rc < 0 ? 255 : r.status;
	command_free(&r);
	return rc;
}

/* ---- saving ---- */

/* Whether fsched's record says that the last checkpoint was not begun. */
static bool cycle_was_refused(const struct cycle *y)
{
	cleanup_free struct job_history *h = xcalloc(1, sizeof(*h));
	cleanup_free char *path = xasprintf("%s/%u", y->s->conf->dir, y->j->id);

	return history_load(path, geteuid() != 0, h, NULL) == 0 && h->n && h->v[h->n - 1].kind == HISTORY_REFUSED;
}

/* Size and times come from the entry, which has them within a moment, and from the job's history when the run is over.
 */
static void cycle_note_epoch(struct cycle *y, unsigned epoch)
{
	const struct status *e = &y->j->entry;

	y->c->epoch = epoch;
	for (int i = 0; i < CYCLE_ENTRY_LOOKS && (qualify_job_look(y->j, NULL) < 0 || e->epoch != epoch); i++)
		session_pause(y->s, CYCLE_ENTRY_US);
	if (e->epoch != epoch)
		return;
	y->c->bytes = e->bytes;
	y->c->frozen_us = e->frozen_us;
	y->c->total_us = e->total_us;
}

/* create or vacate. A checkpoint that fails is tried again: what is in its way may pass. */
static bool cycle_save(struct cycle *y, const char *op)
{
	struct qualify_cycle *c = y->c;
	unsigned epoch;
	char said[300];

	for (c->tries = 1;; c->tries++) {
		int status;

		c->at_us = cycle_run_time(y->k);
		session_doing(y->s, "job %u: %s", y->j->id, op);
		status = cycle_ask(y, op, y->s->o->request_wait, &epoch, said, sizeof(said));
		if (session_stops(y->s))
			return cycle_trouble(y, QUALIFY_STOPPED, " ");
		if ((status == 0 || status == CYCLE_EXIT_LATER) && epoch) {
			cycle_note_epoch(y, epoch);
			return true;
		}
		if (cycle_job_is_over(y))
			return cycle_ended(y, "it was saved");
		cycle_trouble(y, cycle_was_refused(y) ? QUALIFY_REFUSED : QUALIFY_NOT_SAVED, "%s", said);
		session_say(y->s, "job %u: %s: %s", y->j->id, op, c->why);
		if (c->tries == CYCLE_TRIES)
			return false;
		session_pause(y->s, 1 + moments_below(&y->s->random, CYCLE_PAUSE_US));
		if (cycle_job_is_over(y))
			return cycle_ended(y, "it was saved");
	}
}

/* ---- failing ---- */

static bool cycle_wait(struct cycle *y, bool (*ready)(const struct qualify_job *j), const char *doing, int64_t limit_s)
{
	struct err err;

	switch (qualify_job_wait(y->s, y->j, ready, doing, now_us() + limit_s * 1000000, &err)) {
	case QUALIFY_READY: return true;
	case QUALIFY_LOST: return cycle_trouble(y, QUALIFY_NOT_FAILED, "%s", err.text);
	case QUALIFY_LATE:
		return cycle_trouble(y, QUALIFY_NOT_FAILED,
				     "%s took more than %" PRId64 " s; Slurm shows the job as %s%s", doing, limit_s,
				     y->j->slurm.state, y->j->slurm.completing ? ", completing" : "");
	default: return cycle_trouble(y, QUALIFY_STOPPED, " ");
	}
}

static bool cycle_do(struct cycle *y, char *const *argv, const char *doing, const char *prefix)
{
	struct err err;

	if (session_do(argv, doing, prefix, &err) == 0)
		return true;
	if (cycle_job_is_over(y))
		return cycle_ended(y, "it could be disturbed");
	return cycle_trouble(y, QUALIFY_NOT_FAILED, "%s", err.text);
}

/* Until slurmctld has put it back into the queue it is still over. */
static bool cycle_wait_held(struct cycle *y)
{
	const int64_t until = now_us() + CYCLE_LEAVE_S * INT64_C(1000000);

	while (cycle_wait(y, qualify_job_held, "bringing it back into the queue", CYCLE_LEAVE_S)) {
		if (qualify_job_held(y->j))
			return true;
		if (now_us() > until)
			return cycle_trouble(y, QUALIFY_NOT_FAILED, "Slurm did not put it back into the queue");
		session_pause(y->s, 200000);
	}
	return false;
}

/* SIGKILL for the first process of the batch step, which is fsched's agent: the kernel kills all others with it.
 * Nothing of the job and nothing of fsched on the node can do anything more, as if the node had failed. */
static bool cycle_kill(struct cycle *y)
{
	char id[16];
	char *kill[] = { (char[]){ "scancel" }, (char[]){ "--batch" }, (char[]){ "--signal=KILL" }, id, NULL };
	char *back[] = { (char[]){ "scontrol" }, (char[]){ "requeuehold" }, id, NULL };
	struct err err;

	snprintf(id, sizeof(id), "%u", y->j->id);
	if (!cycle_do(y, kill, "cannot kill it", "scancel: error: ") ||
	    !cycle_wait(y, qualify_job_over, "killing its processes", CYCLE_LEAVE_S))
		return false;
	if (!WIFSIGNALED(y->j->slurm.wait_status))
		return cycle_ended(y, "it was killed");
	/* never while it is completing: slurmctld can crash then */
	if (session_do(back, "cannot bring it back into the queue", NULL, &err) < 0)
		return cycle_trouble(y, QUALIFY_NOT_FAILED, "%s", err.text);
	return cycle_wait_held(y);
}

static bool cycle_requeue(struct cycle *y)
{
	char id[16];
	char *argv[] = { (char[]){ "scontrol" }, (char[]){ "requeue" }, id, NULL };

	snprintf(id, sizeof(id), "%u", y->j->id);
	return cycle_do(y, argv, "cannot requeue it", NULL);
}

/* Only if no job of others is on the node: they would be killed. */
static bool cycle_node_is_ours(struct cycle *y, const char *node)
{
	char id[16];
	char *argv[] = { (char[]){ "squeue" },     (char[]){ "--noheader" }, (char[]){ "--format=%A" },
			 (char[]){ "--nodelist" }, (char *)(uintptr_t)node,  NULL };
	struct command_result r;
	struct err err;
	bool ours = true;

	snprintf(id, sizeof(id), "%u", y->j->id);
	if (session_run_whole(argv, &r, &err) < 0 || r.status != 0)
		ours = cycle_trouble(y, QUALIFY_NOT_FAILED, "cannot ask for the jobs of node %s", node);
	for (char *rest = r.out, *line; ours && rest && (line = strsep(&rest, "\n"));)
		if (*line && strcmp(line, id) != 0)
			ours = cycle_trouble(
				y, QUALIFY_NOT_FAILED,
				"node %s also runs job %.20s, which --fail node would kill: use a node of your own "
				"(--exclusive)",
				node, line);
	command_free(&r);
	return ours;
}

static bool cycle_has_left(const struct qualify_job *j)
{
	return j->slurm.pending && !j->slurm.completing;
}

/* Slurm can have resumed it by itself (ReturnToService). */
static bool cycle_node_is_up(struct session *s)
{
	char *argv[] = { (char[]){ "sinfo" },
			 (char[]){ "--noheader" },
			 (char[]){ "--format=%T" },
			 (char[]){ "--nodes" },
			 s->node_down,
			 NULL };
	struct command_result r;
	struct err err;
	const bool up = session_run_whole(argv, &r, &err) == 0 && r.status == 0 && *r.out &&
			strncmp(r.out, "down", 4) != 0;

	command_free(&r);
	return up;
}

int cycle_resume_node(struct session *s, struct err *err)
{
	cleanup_free char *name = xasprintf("NodeName=%s", s->node_down);
	char *argv[] = { (char[]){ "scontrol" }, (char[]){ "update" }, name, (char[]){ "State=RESUME" }, NULL };
	int rc = 0;

	if (*s->node_down)
		rc = session_do(argv, "cannot resume its node, which is DOWN", NULL, err);
	if (rc < 0 && cycle_node_is_up(s))
		rc = 0;
	if (rc == 0)
		s->node_down[0] = '\0';
	return rc;
}

static bool cycle_node_down(struct cycle *y)
{
	cleanup_free char *name = xasprintf("NodeName=%s", y->j->slurm.batch_host);
	char *argv[] = { (char[]){ "scontrol" },
			 (char[]){ "update" },
			 name,
			 (char[]){ "State=DOWN" },
			 (char[]){ "Reason=fsched qualify" },
			 NULL };
	struct err err;
	bool ok;

	if (!cycle_node_is_ours(y, y->j->slurm.batch_host))
		return false;
	snprintf(y->s->node_down, sizeof(y->s->node_down), "%s", y->j->slurm.batch_host);
	ok = cycle_do(y, argv, "cannot set its node DOWN", NULL) &&
	     cycle_wait(y, cycle_has_left, "the failure of its node", CYCLE_LEAVE_S);
	if (cycle_resume_node(y->s, &err) < 0)
		return cycle_trouble(y, QUALIFY_NOT_FAILED, "%s", err.text);
	return ok;
}

/* ---- restoring ---- */

/* Where the job may start next. any: where the user lets it. */
static bool cycle_place(struct cycle *y, const char *node, bool other, bool any)
{
	const struct qualify_job *j = y->j;
	cleanup_free char *id = xasprintf("JobId=%u", j->id);
	cleanup_free char *exclude = any || !other ? xasprintf("ExcNodeList=%s", j->exc_nodes)
						   : xasprintf("ExcNodeList=%s%s%s", j->exc_nodes,
							       *j->exc_nodes ? "," : "", node);
	cleanup_free char *require = xasprintf("ReqNodeList=%s", any || other ? j->req_nodes : node);
	char *argv[] = { (char[]){ "scontrol" }, (char[]){ "update" }, id, exclude, require, NULL };

	return cycle_do(y, argv, "cannot choose its node", NULL);
}

static bool cycle_is_restored(const struct qualify_job *j)
{
	return qualify_job_held(j) || (qualify_job_runs(j) && strcmp(j->slurm.admin_comment, j->stale) != 0);
}

static void cycle_note_stale(struct cycle *y)
{
	free(y->j->stale);
	y->j->stale = xstrdup(y->j->slurm.admin_comment);
}

/* After the restart or the automatic one: is it what was saved? */
static bool cycle_check_restored(struct cycle *y, bool exactly)
{
	const struct qualify_job *j = y->j;
	const struct status *e = &j->entry;

	if (qualify_job_held(j))
		return cycle_trouble(y, QUALIFY_NOT_RESTORED, "it is held: %s", *e->error ? e->error : j->slurm.reason);
	snprintf(y->c->to, sizeof(y->c->to), "%.63s", j->slurm.batch_host);
	if (!e->restored)
		return cycle_trouble(y, QUALIFY_NOT_RESTORED, "it started over from the beginning%s%s",
				     *e->error ? ": " : "", e->error);
	if (exactly && e->restored != y->c->epoch)
		return cycle_trouble(y, QUALIFY_NOT_RESTORED, "it was restored from epoch %u instead of epoch %u%s%s",
				     e->restored, y->c->epoch, *e->error ? ": " : "", e->error);
	return true;
}

static bool cycle_wait_restored(struct cycle *y, bool exactly)
{
	struct err err;

	switch (qualify_job_wait(y->s, y->j, cycle_is_restored, "restart", now_us() + y->s->o->queue_wait * 1000000,
				 &err)) {
	case QUALIFY_READY: return cycle_check_restored(y, exactly);
	case QUALIFY_LOST: return cycle_trouble(y, QUALIFY_NOT_RESTORED, "%s", err.text);
	case QUALIFY_LATE:
		return cycle_trouble(y, QUALIFY_STOPPED, "it did not run again within --queue-wait (%s%s%s)",
				     y->j->slurm.state, *y->j->slurm.reason ? ", " : "", y->j->slurm.reason);
	default: return cycle_trouble(y, QUALIFY_STOPPED, " ");
	}
}

static bool cycle_restart(struct cycle *y, bool other)
{
	const int64_t patience = other && y->s->o->queue_wait > CYCLE_OTHER_S ? CYCLE_OTHER_S : y->s->o->queue_wait;
	unsigned epoch;
	char said[300];
	int status;

	cycle_note_stale(y);
	session_doing(y->s, "job %u: restart", y->j->id);
	status = cycle_ask(y, "restart", patience, &epoch, said, sizeof(said));
	if (session_stops(y->s))
		return cycle_trouble(y, QUALIFY_STOPPED, " ");
	if (status != 0 && status != CYCLE_EXIT_LATER)
		return cycle_trouble(y, QUALIFY_NOT_RESTORED, "%s", said);
	if (status == CYCLE_EXIT_LATER && other && qualify_job_look(y->j, NULL) == 0 && y->j->slurm.pending) {
		session_say(y->s, "job %u: no other node became free; it may start on any", y->j->id);
		if (!cycle_place(y, "", other, true))
			return false;
	}
	return cycle_wait_restored(y, true);
}

/* After a requeue or a failed node Slurm starts the job by itself. */
static bool cycle_comes_back(struct cycle *y)
{
	const int64_t until = now_us() + y->s->o->queue_wait * 1000000;
	struct err err;

	while (qualify_job_wait(y->s, y->j, cycle_is_restored, "restart", until, &err) == QUALIFY_READY) {
		/* as long as it is the run before, its entry is that one's */
		if (y->j->slurm.restart_count > y->restarts || qualify_job_held(y->j))
			return cycle_check_restored(y, false);
		if (qualify_job_over(y->j))
			return cycle_ended(y, "it was disturbed");
		if (!session_pause(y->s, 200000))
			break;
	}
	return cycle_trouble(y, QUALIFY_NOT_RESTORED, "it did not run again (%s%s%s)", y->j->slurm.state,
			     *y->j->slurm.reason ? ", " : "", y->j->slurm.reason);
}

/* ---- cycles ---- */

static bool cycle_restart_somewhere(struct cycle *y, bool other)
{
	const bool choose = y->s->r->other_node || y->s->o->same_node;

	other &= choose && !y->s->o->same_node;
	return (!choose || cycle_place(y, y->c->from, other, false)) && cycle_restart(y, other);
}

static bool cycle_vacate(struct cycle *y, bool other)
{
	if (!cycle_save(y, "vacate"))
		return false;
	*y->k = (struct cycle_clock){ .before = y->c->at_us };
	return cycle_restart_somewhere(y, other);
}

static bool cycle_fail(struct cycle *y, int64_t after_us, bool other)
{
	const enum qualify_fail how = y->s->o->fail;
	int64_t ran;

	if (!cycle_save(y, "create"))
		return false;
	/* from when the checkpoint was complete */
	if (!session_pause(y->s, after_us))
		return cycle_trouble(y, QUALIFY_STOPPED, " ");
	if (cycle_job_is_over(y))
		return cycle_ended(y, "it was disturbed");
	y->restarts = y->j->slurm.restart_count;
	cycle_note_stale(y);
	ran = cycle_run_time(y->k);
	if (!(how == QUALIFY_KILL ? cycle_kill(y) : how == QUALIFY_REQUEUE ? cycle_requeue(y) : cycle_node_down(y)))
		return false;
	*y->k = (struct cycle_clock){ .before = y->c->at_us };
	y->c->lost_us = ran - y->c->at_us;
	if (how == QUALIFY_KILL)
		return cycle_restart_somewhere(y, other);
	if (!cycle_comes_back(y))
		return false;
	if (y->j->entry.restored != y->c->epoch) { /* it was saved once more when it was requeued */
		y->c->epoch = y->j->entry.restored;
		y->c->lost_us = 0;
		y->k->before = ran;
	}
	return true;
}

void cycle_make(struct session *s, struct qualify_job *j, struct qualify_cycle *c, struct cycle_clock *k, bool failure,
		int64_t after_us, bool other_node)
{
	struct cycle y = { s, j, c, k, 0 };

	snprintf(c->from, sizeof(c->from), "%.63s", j->slurm.batch_host);
	c->done = failure ? cycle_fail(&y, after_us, other_node) : cycle_vacate(&y, other_node);
	if (c->done)
		c->trouble = QUALIFY_NO_TROUBLE;
	k->since = c->done ? now_us() : 0;
}
