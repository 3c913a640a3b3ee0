#include "agent/lease_watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/record_history.h"
#include "base/log.h"
#include "base/io.h"
#include "base/clock.h"
#include "policy/recovery.h"

#define LEASE_POLL_MS        250      /* between two reads of the lease of another holder */
#define LEASE_TROUBLE_US     10000000 /* of a file system that refuses, before a start gives up */
#define LEASE_RELEASE_MS     60000    /* for which the child that has lost the lease waits for the agent's word */
#define LEASE_RENEW_PARTS    4        /* renewals per duration */
#define LEASE_AGAIN_US       1000000  /* until a child that has died is replaced */
#define LEASE_AGAIN_LATER_US 30000000 /* the same of one that could not get the lease of a job that runs already */
#define LEASE_GRACE_US       3000000  /* for the child, after everything here had been stopped (scontrol suspend) */
#define LEASE_LATE_US        1000000  /* the agent is as late as this only if it had been stopped */

/* ---- the child ---- */

struct lease_keeper {
	int out, dirfd;
	bool ours; /* the agent has the lease already: a child before this one took it */
	struct lease self;
};

__attribute__((format(printf, 2, 3))) static void lease_keeper_tell(const struct lease_keeper *k, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	n = n < (int)sizeof(text) - 1 ? n : (int)sizeof(text) - 2;
	text[n++] = '\n';
	if (write_all(k->out, text, (size_t)n) < 0)
		_exit(0); /* the agent has ended */
}

/* Waits for ms. True: the agent wants the lease to be released, or has ended. */
static bool lease_keeper_released(int ms)
{
	struct pollfd p = { STDIN_FILENO, POLLIN, 0 };

	return poll(&p, 1, ms) > 0;
}

struct lease_wait {                     /* for another holder */
	int64_t stamp, unchanged_since; /* ms; us */
	bool said;
};

static enum lease_verdict lease_keeper_judge(const struct lease_keeper *k, struct lease_wait *w, const struct lease *l,
					     bool exists, const struct lease_age *age)
{
	const unsigned duration = l->duration ? l->duration : k->self.duration;
	const int64_t limit_ms = (int64_t)(duration + lease_margin(duration)) * 1000;
	struct lease_input in = {
		.exists = exists,
		.released = l->released,
		.newer = l->restart_count > k->self.restart_count,
		.same_host = strcmp(l->host, k->self.host) == 0,
		.same_boot = strcmp(l->boot_id, k->self.boot_id) == 0,
	};

	if (age->stamp_ms != w->stamp) {
		w->stamp = age->stamp_ms;
		w->unchanged_since = now_us();
	}
	in.expired = age->ms > limit_ms || now_us() - w->unchanged_since > limit_ms * 1000;
	in.alive = in.same_host && in.same_boot && lease_holder_lives(l);
	return lease_decide(&in);
}

/* Reads the lease once and decides. */
static int lease_keeper_look(const struct lease_keeper *k, struct lease_wait *w, enum lease_verdict *v, struct err *err)
{
	struct lease l;
	struct lease_age age = { 0 };
	bool exists;

	if (lease_read(k->dirfd, &l, &exists, err))
		return -1;
	/* the claim makes a living holder give up, and its time stamp gives the age of the lease */
	if (exists && !l.released && lease_claim(k->dirfd, k->self.host, k->self.restart_count, &age, err))
		return -1;
	*v = lease_keeper_judge(k, w, &l, exists, &age);
	if (*v == LEASE_WAIT && !w->said) {
		lease_keeper_tell(k,
				  "wait it may still run on node %s; waiting until that has given it up (at most %u s)",
				  l.host[0] ? l.host : "?",
				  (l.duration ? l.duration : k->self.duration) + lease_margin(l.duration));
		w->said = true;
	} else if (*v == LEASE_STAND_DOWN) {
		lease_keeper_tell(k, "lost %s", l.host);
	}
	return 0;
}

static bool lease_keeper_acquire(const struct lease_keeper *k)
{
	struct lease_wait w = { .stamp = -1 };
	int64_t trouble = 0;

	lease_keeper_tell(k, "seen %lld", (long long)lease_seen(k->dirfd));

	for (;;) {
		enum lease_verdict v = LEASE_WAIT;
		struct err err;
		int rc = lease_keeper_look(k, &w, &v, &err);

		if (rc == 0 && v == LEASE_TAKE)
			return true;
		if (rc == 0 && v == LEASE_STAND_DOWN)
			return false;
		if (rc == 0)
			trouble = 0;
		else if (!trouble)
			trouble = now_us();
		else if (now_us() - trouble > LEASE_TROUBLE_US) {
			lease_keeper_tell(k, "failed %s", err.text);
			return false;
		}
		if (lease_keeper_released(LEASE_POLL_MS))
			return false;
	}
}

/* Another start of the job has the lease itself, not only a claim. */
static bool lease_keeper_overtaken(const struct lease_keeper *k, char *host)
{
	struct lease l;
	struct err err;
	bool exists;

	if (lease_read(k->dirfd, &l, &exists, &err) < 0 || !exists || l.restart_count <= k->self.restart_count)
		return false;
	snprintf(host, 256, "%s", l.host);
	return true;
}

/* False: it belongs to another start of the job now. */
static bool lease_keeper_still_ours(const struct lease_keeper *k)
{
	struct err err;
	char host[256];
	bool claimed;

	if (lease_claimed(k->dirfd, k->self.restart_count, &claimed, host, &err) == 0 && claimed) {
		lease_keeper_tell(k, "lost %s", host);
		return false;
	}
	if (lease_keeper_overtaken(k, host)) {
		lease_keeper_tell(k, "lost %s", host);
		return false;
	}
	return true;
}

static void lease_keeper_renew(struct lease_keeper *k)
{
	bool trouble = false;

	for (;;) {
		int64_t began = now_us();
		struct err err;

		if (!lease_keeper_still_ours(k)) {
			/* the claimer waits until the agent has killed the job and says so here */
			lease_keeper_released(LEASE_RELEASE_MS);
			return;
		}
		if (lease_renew(k->dirfd, &k->self, &err) == 0) {
			lease_keeper_tell(k, "held %lld", (long long)began);
			trouble = false;
		} else if (!trouble) {
			lease_keeper_tell(k, "trouble %s", err.text);
			trouble = true;
		}
		if (lease_keeper_released((int)k->self.duration * 1000 / LEASE_RENEW_PARTS))
			return;
	}
}

static int lease_keeper_main(void *arg, int out)
{
	const struct lease_watch *w = arg;
	struct lease_keeper k = { .out = out, .dirfd = w->job->store.dirfd, .ours = w->held, .self = w->self };
	struct err err;
	char word[16], host[256];

	if (!k.ours && !lease_keeper_acquire(&k))
		return 0;
	lease_keeper_renew(&k);
	/* Released only at the agent's word. If the agent was killed instead, its pod may not be dead yet. */
	if (recv(STDIN_FILENO, word, sizeof(word), MSG_DONTWAIT) <= 0 || lease_keeper_overtaken(&k, host))
		return 0;
	k.self.released = true;
	return lease_write(k.dirfd, &k.self, &err) < 0;
}

/* ---- the agent ---- */

static void lease_watch_on_deadline(void *arg)
{
	const struct lease_watch *w = arg;
	char why[600];

	snprintf(why, sizeof(why), "its lease could not be renewed: %s",
		 w->error[0] ? w->error : "the checkpoint directory does not answer");
	w->lost(w->arg, why);
}

static void lease_watch_set_deadline(struct lease_watch *w, int64_t at)
{
	loop_timer_set(w->job->loop, &w->deadline, at, lease_watch_on_deadline, w);
	w->until = at;
	w->deadline_moved(w->arg);
}

/* Renewals come LEASE_RENEW_PARTS times in the lease's duration. One of a job that was suspended meanwhile is not late.
 */
static bool lease_watch_is_late(const struct lease_watch *w, int64_t began)
{
	return w->renewed_at && began - w->renewed_at > (int64_t)w->self.duration * 1000000 / 2 &&
	       w->job->continued_at < w->renewed_at;
}

static void lease_watch_renewed(struct lease_watch *w, int64_t began)
{
	bool first = !w->held;

	if (lease_watch_is_late(w, began))
		record_history_lease_late(w->job);
	w->renewed_at = began;
	w->held = true;
	w->grace = false;
	w->error[0] = '\0';
	lease_watch_set_deadline(w, began + (int64_t)w->self.duration * 1000000);
	if (first && w->waiting) {
		w->waiting = false;
		w->acquired(w->arg);
	}
}

static void lease_watch_taken_by(struct lease_watch *w, const char *node)
{
	char why[320];

	w->taken = true;
	w->elsewhere = strcmp(node, w->job->task.node) != 0;
	snprintf(why, sizeof(why), "Slurm has started it once more, on node %.256s", node);
	w->lost(w->arg, why);
}

static void lease_watch_on_line(void *arg, char *line)
{
	struct lease_watch *w = arg;
	long long t;

	if (sscanf(line, "held %lld", &t) == 1) {
		lease_watch_renewed(w, t);
	} else if (sscanf(line, "seen %lld", &t) == 1) {
		w->job->last_seen = t;
	} else if (strncmp(line, "lost ", 5) == 0) {
		lease_watch_taken_by(w, line + 5);
	} else if (strncmp(line, "wait ", 5) == 0) {
		job_log(w->job, "the job is not started yet: %s", line + 5);
	} else if (strncmp(line, "trouble ", 8) == 0) {
		log_warn("the job's lease cannot be renewed: %s; trying again", line + 8);
		snprintf(w->error, sizeof(w->error), "%.400s", line + 8);
	} else if (strncmp(line, "failed ", 7) == 0) {
		snprintf(w->error, sizeof(w->error), "%.400s", line + 7);
	}
}

static void lease_watch_on_again(void *arg)
{
	lease_watch_start(arg);
}

/* While the job runs. If the child dies again and again, the lease is not renewed, and the deadline passes. */
static void lease_watch_replace(struct lease_watch *w)
{
	if (!w->wanted(w->arg) || w->released || w->taken || !w->job->store_ok)
		return;
	if (w->held)
		log_warn("the process that renews the job's lease has died; another one is started");
	loop_timer_set(w->job->loop, &w->again, now_us() + (w->held ? LEASE_AGAIN_US : LEASE_AGAIN_LATER_US),
		       lease_watch_on_again, w);
}

static void lease_watch_give_up(struct lease_watch *w, const char *why)
{
	w->waiting = false;
	w->failed(w->arg, why);
}

static void lease_watch_on_end(void *arg, int status)
{
	struct lease_watch *w = arg;

	w->job->dir_in_use = false;
	if (w->waiting)
		lease_watch_give_up(w, w->error[0] ? w->error : "the process that takes the job's lease has died");
	else
		lease_watch_replace(w);
}

static void lease_watch_start_keeper(struct lease_watch *w)
{
	struct job *j = w->job;
	struct proc_spec s = { .main = lease_keeper_main,
			       .main_arg = w,
			       .keep_fd = j->store.dirfd,
			       .talk = true,
			       .on_line = lease_watch_on_line,
			       .on_end = lease_watch_on_end,
			       .arg = w };
	struct err err = { 0 };

	w->self.restart_count = j->task.restart_count;
	w->self.duration = j->conf.lease_time;
	w->error[0] = '\0';
	if (lease_describe_self(&w->self, j->task.node, &err) == 0 && proc_start(j->loop, &w->proc, &s, &err) == 0) {
		j->dir_in_use = true;
		return;
	}
	log_error("%s", err.text);
	if (w->waiting)
		lease_watch_give_up(w, err.text);
}

void lease_watch_acquire(struct lease_watch *w)
{
	w->waiting = true;
	lease_watch_start_keeper(w);
}

void lease_watch_start(struct lease_watch *w)
{
	/* a job that has waited for its lease has a child already */
	if (w->job->store_ok && !w->released && !w->taken && !proc_running(&w->proc))
		lease_watch_start_keeper(w);
}

bool lease_watch_grant_grace(struct lease_watch *w)
{
	const int64_t continued_at = w->job->continued_at;
	sigset_t pending;

	/* the SIGCONT may still wait to be read */
	if (w->taken || w->grace || now_us() - w->until < LEASE_LATE_US || sigpending(&pending) < 0 ||
	    !(sigismember(&pending, SIGCONT) == 1 || continued_at > w->until))
		return false;
	w->grace = true;
	lease_watch_set_deadline(w, now_us() + LEASE_GRACE_US);
	return true;
}

void lease_watch_end(struct lease_watch *w)
{
	loop_timer_clear(w->job->loop, &w->deadline);
	loop_timer_clear(w->job->loop, &w->again);
	w->until = 0;
	if (!proc_running(&w->proc) || w->released)
		return;
	w->released = true;
	/* the job is over, so a claim is no loss any more */
	w->proc.on_line = NULL;
	if (proc_send(&w->proc, "release") < 0)
		proc_kill(&w->proc);
}

bool lease_watch_idle(const struct lease_watch *w)
{
	return !proc_running(&w->proc);
}
