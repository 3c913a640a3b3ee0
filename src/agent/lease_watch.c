/* The job's lease (store/lease.h): a child takes and renews it, since the file system may hang; the agent watches the
 * child.
 *
 * A lease that was not renewed for its duration, or that a later start of the job claims, means that the job may run
 * somewhere else any moment: its pod is killed (fence.c). fsched-init has the same deadline and ends the pod by itself:
 * an agent that hangs in a file system cannot keep a fenced job alive.
 *
 * A job that starts for the first time does not wait for its lease. One that starts again touches nothing before it has
 * it. */
#include "agent/agent.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/io.h"
#include "base/clock.h"
#include "policy/recovery.h"
#include "store/lease.h"

#define LOOK_MS        250      /* between two looks at a lease of another holder */
#define TROUBLE_US     10000000 /* of a file system that refuses, before a start gives up */
#define RELEASE_MS     60000    /* that a lost lease is kept for the agent's word */
#define RENEW_PARTS    4        /* renewals per duration */
#define AGAIN_US       1000000  /* until a child that has died is replaced */
#define AGAIN_LATER_US 30000000 /* the same of one that could not get the lease of a job that runs already */

/* ---- the child ---- */

struct keeper {
	int out, dirfd;
	bool ours; /* the agent has the lease already: a child before this one took it */
	struct lease self;
};

__attribute__((format(printf, 2, 3))) static void tell(const struct keeper *k, const char *fmt, ...)
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
		_exit(0); /* nobody listens any more */
}

/* True: the agent wants the lease to be released, or is gone. */
static bool told_to_release(int ms)
{
	struct pollfd p = { STDIN_FILENO, POLLIN, 0 };

	return poll(&p, 1, ms) > 0;
}

struct wait {                           /* for another holder */
	int64_t stamp, unchanged_since; /* ms; us */
	bool said;
};

static enum lease_verdict judge(const struct keeper *k, struct wait *w, const struct lease *l, bool exists,
				const struct lease_age *age)
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

/* One look at the lease. */
static int look(const struct keeper *k, struct wait *w, enum lease_verdict *v, struct err *err)
{
	struct lease l;
	struct lease_age age = { 0 };
	bool exists;

	if (lease_read(k->dirfd, &l, &exists, err))
		return -1;
	/* the claim makes a holder that lives give up, and tells the age */
	if (exists && !l.released && lease_claim(k->dirfd, k->self.host, k->self.restart_count, &age, err))
		return -1;
	*v = judge(k, w, &l, exists, &age);
	if (*v == LEASE_WAIT && !w->said) {
		tell(k, "wait it may still run on node %s; waiting until that has given it up (at most %u s)",
		     l.host[0] ? l.host : "?", (l.duration ? l.duration : k->self.duration) + lease_margin(l.duration));
		w->said = true;
	} else if (*v == LEASE_STAND_DOWN) {
		tell(k, "lost %s", l.host);
	}
	return 0;
}

static bool acquire(const struct keeper *k)
{
	struct wait w = { .stamp = -1 };
	int64_t trouble = 0;

	for (;;) {
		enum lease_verdict v = LEASE_WAIT;
		struct err err;
		int rc = look(k, &w, &v, &err);

		if (rc == 0 && v == LEASE_TAKE)
			return true;
		if (rc == 0 && v == LEASE_STAND_DOWN)
			return false;
		if (rc == 0)
			trouble = 0;
		else if (!trouble)
			trouble = now_us();
		else if (now_us() - trouble > TROUBLE_US) {
			tell(k, "failed %s", err.text);
			return false;
		}
		if (told_to_release(LOOK_MS))
			return false;
	}
}

/* Another start of the job has the lease itself, not only a claim. */
static bool taken(const struct keeper *k, char *host)
{
	struct lease l;
	struct err err;
	bool exists;

	if (lease_read(k->dirfd, &l, &exists, &err) < 0 || !exists || l.restart_count <= k->self.restart_count)
		return false;
	snprintf(host, 256, "%s", l.host);
	return true;
}

/* False: it is somebody else's now. */
static bool still_ours(const struct keeper *k)
{
	struct err err;
	char host[256];
	bool claimed;

	if (lease_claimed(k->dirfd, k->self.restart_count, &claimed, host, &err) == 0 && claimed) {
		tell(k, "lost %s", host);
		return false;
	}
	if (taken(k, host)) {
		tell(k, "lost %s", host);
		return false;
	}
	return true;
}

static void renew(struct keeper *k)
{
	bool trouble = false;

	for (;;) {
		int64_t began = now_us();
		struct err err;

		if (!still_ours(k)) {
			/* the claimer waits for us: the agent kills the job, and then says so */
			told_to_release(RELEASE_MS);
			return;
		}
		if (lease_renew(k->dirfd, &k->self, &err) == 0) {
			tell(k, "held %lld", (long long)began);
			trouble = false;
		} else if (!trouble) {
			tell(k, "trouble %s", err.text);
			trouble = true;
		}
		if (told_to_release((int)k->self.duration * 1000 / RENEW_PARTS))
			return;
	}
}

static int lease_main(void *arg, int out)
{
	const struct agent *a = arg;
	struct keeper k = { .out = out, .dirfd = a->store.dirfd, .ours = a->lease.held, .self = a->lease.self };
	struct err err;
	char word[16], host[256];

	if (!k.ours && !acquire(&k))
		return 0;
	renew(&k);
	/* released only by the agent's word: if it was killed, its pod may be dying yet */
	if (recv(STDIN_FILENO, word, sizeof(word), MSG_DONTWAIT) <= 0 || taken(&k, host))
		return 0;
	k.self.released = true;
	return lease_write(k.dirfd, &k.self, &err) < 0;
}

/* ---- the agent ---- */

static void set_deadline(struct agent *a, int64_t at);

static void on_deadline(void *arg)
{
	const struct agent *a = arg;
	char why[600];

	snprintf(why, sizeof(why), "its lease could not be renewed: %s",
		 a->lease.error[0] ? a->lease.error : "the checkpoint directory does not answer");
	fence(arg, why);
}

static void set_deadline(struct agent *a, int64_t at)
{
	loop_timer_set(&a->loop, &a->lease.deadline, at, on_deadline, a);
	a->lease.until = at;
	pod_tell_lease(a);
}

static void held(struct agent *a, int64_t began)
{
	bool first = !a->lease.held;

	a->lease.held = true;
	a->lease.grace = false;
	a->lease.error[0] = '\0';
	set_deadline(a, began + (int64_t)a->lease.self.duration * 1000000);
	if (first && a->lease.waiting) {
		a->lease.waiting = false;
		start_with_lease(a);
	}
}

static void on_line(void *arg, char *line)
{
	struct agent *a = arg;
	long long t;

	if (sscanf(line, "held %lld", &t) == 1) {
		held(a, t);
	} else if (strncmp(line, "lost ", 5) == 0) {
		char why[320];

		a->lease.taken = true;
		a->lease.elsewhere = strcmp(line + 5, a->task.node) != 0;
		snprintf(why, sizeof(why), "Slurm has started it once more, on node %.256s", line + 5);
		fence(a, why);
	} else if (strncmp(line, "wait ", 5) == 0) {
		job_log(a, "the job is not started yet: %s", line + 5);
	} else if (strncmp(line, "trouble ", 8) == 0) {
		log_warn("the job's lease cannot be renewed: %s; trying again", line + 8);
		snprintf(a->lease.error, sizeof(a->lease.error), "%.400s", line + 8);
	} else if (strncmp(line, "failed ", 7) == 0) {
		snprintf(a->lease.error, sizeof(a->lease.error), "%.400s", line + 7);
	}
}

static void start(struct agent *a);

static void on_again(void *arg)
{
	lease_start(arg);
}

/* While the job runs. One that dies again and again does not renew the lease, and the deadline passes. */
static void replace(struct agent *a)
{
	if (a->phase != PHASE_RUNNING || a->lease.released || a->lease.taken || !a->store_ok)
		return;
	if (a->lease.held)
		log_warn("the process that renews the job's lease has died; another one is started");
	loop_timer_set(&a->loop, &a->lease.again, now_us() + (a->lease.held ? AGAIN_US : AGAIN_LATER_US), on_again, a);
}

static void on_end(void *arg, int status)
{
	struct agent *a = arg;

	if (a->lease.waiting) {
		a->lease.waiting = false;
		start_without_lease(a, a->lease.error[0] ? a->lease.error
							 : "the process that takes the job's lease has died");
	} else {
		replace(a);
	}
	end_check(a);
}

static void start(struct agent *a)
{
	struct proc_spec s = { .main = lease_main,
			       .main_arg = a,
			       .keep_fd = a->store.dirfd,
			       .talk = true,
			       .on_line = on_line,
			       .on_end = on_end,
			       .arg = a };
	struct err err = { 0 };

	a->lease.self.restart_count = a->task.restart_count;
	a->lease.self.duration = a->conf.lease_time;
	a->lease.error[0] = '\0';
	if (lease_describe_self(&a->lease.self, a->task.node, &err) == 0 &&
	    proc_start(&a->loop, &a->lease.proc, &s, &err) == 0)
		return;
	log_error("%s", err.text);
	if (a->lease.waiting) {
		a->lease.waiting = false;
		start_without_lease(a, err.text);
	}
}

void lease_acquire(struct agent *a)
{
	a->lease.waiting = true;
	start(a);
}

void lease_start(struct agent *a)
{
	/* a job that has waited for its lease has a child already */
	if (a->store_ok && !a->lease.released && !a->lease.taken && !proc_running(&a->lease.proc))
		start(a);
}

void lease_extend(struct agent *a, int64_t us)
{
	set_deadline(a, now_us() + us);
}

void lease_end(struct agent *a)
{
	loop_timer_clear(&a->loop, &a->lease.deadline);
	loop_timer_clear(&a->loop, &a->lease.again);
	a->lease.until = 0;
	if (!proc_running(&a->lease.proc) || a->lease.released)
		return;
	a->lease.released = true;
	/* its on_line must not take a claim for a loss any more: the job is over */
	a->lease.proc.on_line = NULL;
	if (proc_send(&a->lease.proc, "release") < 0)
		proc_kill(&a->lease.proc);
}

bool lease_idle(const struct agent *a)
{
	return !proc_running(&a->lease.proc);
}
