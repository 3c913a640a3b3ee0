/* From exec to the decision: run the script, restore, or hold.
 *
 * What must not happen is that a vacated job starts over silently, or that a job is kept from running because it could
 * not be checkpointed. So a job that starts for the first time runs even if its directory cannot be made: the error is
 * recorded and shown, and each checkpoint that falls due tries again. A job that starts again and whose record cannot
 * be read is held. */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/dir.h"
#include "base/clock.h"
#include "base/util.h"
#include "pod/pod.h"

#define ASK_TIMEOUT 60 /* s */

/* ---- the gate ---- */

void gate_answer(struct agent *a, const char *answer)
{
	int fd = a->gate.fd;

	if (fd < 0)
		return;
	if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
		log_warn("the script's process does not wait any more: %s", strerror(errno));
	loop_remove(&a->loop, &a->gate);
	close(fd);
}

static void kept(struct agent *a, bool ok, const char *what);

static void on_gate(void *arg)
{
	struct agent *a = arg;
	char text[9000];
	int fd = a->gate.fd;
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n > 0) {
		text[n] = '\0';
		if (strcmp(text, "ready") == 0) {
			a->ready = true;
			start_check(a);
		} else if (strncmp(text, "kept ", 5) == 0 || strncmp(text, "lost ", 5) == 0) {
			kept(a, text[0] == 'k', text + 5);
		}
	} else if (n == 0) {
		/* slurmstepd's part failed; init will report how the process ended */
		loop_remove(&a->loop, &a->gate);
		close(fd);
	}
}

/* ---- the decision ---- */

/* Remembered for the status, which is published once the job runs. */
static void unprotected(struct agent *a, const struct err *err)
{
	if (a->start.error[0])
		return;
	snprintf(a->start.error, sizeof(a->start.error), "%.500s", err->text);
	log_error("the job runs, but cannot be checkpointed: %s", err->text);
}

/* ---- the output of the run before ---- */

static bool may_start(const struct agent *a)
{
	return a->phase == PHASE_STARTING || a->phase == PHASE_RESTORING;
}

/* The script's process has answered, or has had its time. It is the user's, so its words may be anything. */
static void kept(struct agent *a, bool ok, const char *what)
{
	char clean[400];

	if (a->start.kept || !a->start.keep_limit.at || !may_start(a))
		return;
	loop_timer_clear(&a->loop, &a->start.keep_limit);
	snprintf(clean, sizeof(clean), "%.399s", what);
	a->start.kept = true;
	a->start.append = !ok;
	if (!ok)
		snprintf(a->start.output, sizeof(a->start.output),
			 "the output of the run before could not be kept beside (%s): the new run appends to it", clean);
	else if (*clean)
		snprintf(a->start.output, sizeof(a->start.output), "the output of the run before is kept beside as %s",
			 clean);
	if (*a->start.output)
		job_log(a, "%s", a->start.output);
	start_fresh(a);
}

static void on_keep_limit(void *arg)
{
	struct agent *a = arg;

	kept(a, false, "it took longer than CheckpointTimeout");
}

static bool had_epochs(const struct agent *a)
{
	for (unsigned i = 0; a->start.have_record && i < a->rec.n_epochs; i++)
		if (a->rec.epochs[i].run == a->rec.run)
			return true;
	return a->start.saved;
}

/* True: the script's process is at it, and start_fresh() is called again. */
static bool keep_output(struct agent *a)
{
	char text[32];

	if (a->start.kept || !a->task.restart_count || !had_epochs(a))
		return false;
	snprintf(text, sizeof(text), "keep %u", a->start.have_record ? a->rec.run : a->task.restart_count);
	if (send(a->gate.fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		return false; /* it has ended: so will the start */
	loop_timer_set(&a->loop, &a->start.keep_limit, now_us() + (int64_t)a->conf.timeout * 1000000, on_keep_limit, a);
	return true;
}

void start_fresh(struct agent *a)
{
	struct job_record *r = &a->rec;
	struct err err;

	if (a->gate.fd < 0) {
		/* the process that was to become the script is gone, and with it the way to start over here */
		end_unstarted(a, "the script's process ended while it waited");
		return;
	}
	if (keep_output(a))
		return;
	if (a->store_ok) {
		r->run = a->start.have_record ? r->run + 1 : 1;
		r->intent = INTENT_RUNNING;
		r->interval = a->task.interval;
		r->restart_count = a->task.restart_count;
		r->skipped = 0;
		snprintf(r->host, sizeof(r->host), "%s", a->task.node);
		if (job_save(a, &err) < 0)
			unprotected(a, &err);
	}
	a->phase = PHASE_RUNNING;
	a->pub.status.restored = 0;
	written_start(a, a->pod.init, true);
	gate_answer(a, a->task.truncate && !a->start.append ? "run truncate" : "run");
	job_log(a, "started%s on %s", r->run > 1 ? " from the beginning" : "", a->task.node);
	if (a->store_ok && job_save_copies(a, &err) < 0)
		unprotected(a, &err);
	start_service(a);
}

/* No other node can have it. */
static void stay(struct agent *a)
{
	if (a->start.plan.otherwise == START_HOLD) {
		return_begin(a, RETURN_HOLD, a->start.error[0] ? a->start.error : a->start.plan.reason);
		return;
	}
	job_log(a, "the job starts over: %s", a->start.plan.reason);
	if (!a->start.error[0])
		snprintf(a->start.error, sizeof(a->start.error), "started over: %s", a->start.plan.reason);
	start_fresh(a);
}

static void elsewhere(struct agent *a)
{
	if (move_possible(a))
		move_begin(a, a->start.error[0] ? a->start.error : a->start.plan.reason, stay);
	else
		stay(a);
}

struct heard {
	bool saved, ended;
}; /* what Slurm's entry says of the job, see struct start_input */

static void decide(struct agent *a, unsigned requested, struct heard heard)
{
	static unsigned epochs[STORE_KEPT_MAX];
	struct start_input in = { .have_record = a->start.have_record,
				  .intent = a->rec.intent,
				  .requested = requested,
				  .saved = heard.saved,
				  .told = heard.ended,
				  .ended = a->start.have_record ? ended_how(a->rec.status) : ENDED_UNKNOWN,
				  .unusable = a->start.unusable,
				  .restart_count = a->task.restart_count,
				  .epochs = epochs,
				  .hold_on_failure = a->conf.on_restore_failure == CONF_HOLD };

	a->start.requested = requested;
	a->start.saved = heard.saved;
	for (unsigned i = 0; i < a->rec.n_epochs; i++)
		if (a->rec.epochs[i].run == a->rec.run)
			epochs[in.n_epochs++] = a->rec.epochs[i].number;
	start_decide(&in, &a->start.plan);
	if (a->task.restart_count)
		log_info("restart %u: %s", a->task.restart_count, a->start.plan.reason);
	switch (a->start.plan.action) {
	case START_FRESH: start_fresh(a); break;
	case START_RESTORE: restore_begin(a); break;
	case START_HOLD: return_begin(a, RETURN_HOLD, a->start.plan.reason); break;
	case START_ELSEWHERE: elsewhere(a); break;
	case START_END: end_as_before(a); break;
	}
}

static void on_asked(void *arg, bool ok, const json_t *answer, const char *error)
{
	struct agent *a = arg;
	json_int_t epoch = json_integer_value(json_object_get(answer, "epoch"));
	bool vacated = json_is_true(json_object_get(answer, "vacated"));
	const struct heard heard = { json_is_true(json_object_get(answer, "saved")),
				     json_is_true(json_object_get(answer, "ended")) };
	const char *tried = json_string_value(json_object_get(answer, "tried"));

	if (!ok)
		job_log(a, "Slurm cannot be asked which epoch to restore (%s); the newest is taken", error);
	/* a person who restarts it begins anew with the nodes, too */
	if (tried && (epoch == 0 || json_is_true(json_object_get(answer, "moved"))))
		snprintf(a->pub.status.tried, sizeof(a->pub.status.tried), "%s", tried);
	if (ok && epoch > 0 && epoch < INT32_MAX)
		decide(a, (unsigned)epoch, heard);
	else if (epoch < 0 || (!a->start.have_record && (vacated || !ok)))
		/* a vacated job whose record is not to be seen here must not start over */
		decide(a, START_LATEST, heard);
	else
		decide(a, 0, heard);
}

static void ask_epoch(struct agent *a)
{
	rpc_start(&a->loop, &a->start.ask, a->libexec, ASK_TIMEOUT, "take-restart-epoch", a->task.job_id, NULL,
		  on_asked, a);
}

/* The record as the holder before us left it. */
static int open_record(struct agent *a)
{
	struct err err = { 0 };

	if (job_open_store(a, &err) == 0)
		return 0;
	snprintf(a->start.error, sizeof(a->start.error), "the job's checkpoint record cannot be read: %.400s", err.text);
	a->start.unusable = true;
	return -1;
}

/* The job has been taken from this start while it waited for the lease, by a later one or by its end: what a person has
 * asked for is not this start's to take, nor the job to hold or to move. */
static bool is_over(const struct agent *a)
{
	return a->phase != PHASE_STARTING;
}

void start_with_lease(struct agent *a)
{
	if (is_over(a))
		return;
	open_record(a); /* without it, Slurm's own entry tells what must not happen */
	ask_epoch(a);
}

void start_without_lease(struct agent *a, const char *why)
{
	if (is_over(a))
		return;
	snprintf(a->start.error, sizeof(a->start.error),
		 "the job's checkpoint directory cannot be used on this node: %.400s", why);
	log_error("%s", a->start.error);
	a->start.unusable = true;
	ask_epoch(a);
}

static void begin_decision(struct agent *a)
{
	struct err err = { 0 };

	if (a->task.restart_count > 0) {
		if (job_open_dir(a, &err) < 0)
			start_without_lease(a, err.text);
		else
			lease_acquire(a);
	} else if (job_open_store(a, &err) < 0) {
		unprotected(a, &err);
		start_fresh(a);
	} else if (!a->start.have_record) {
		decide(a, 0, (struct heard){ 0 });
	} else {
		ask_epoch(a);
	}
}

/* Slurm has put only this process into the job's cgroups, and has done so by the time the script's process is ready. */
static void join_cgroups(struct agent *a)
{
	const pid_t pids[] = { a->task.init_pid, a->task.leader_pid, a->task.script_pid };
	struct err err;

	if (pod_join_my_cgroups(pids, ARRAY_SIZE(pids), &err) < 0)
		log_error("the job's processes cannot be put under Slurm's limits: %s", err.text);
}

void start_check(struct agent *a)
{
	if (!a->up || !a->ready || a->start.deciding || a->phase != PHASE_STARTING)
		return;
	a->start.deciding = true;
	join_cgroups(a);
	begin_decision(a);
}

/* ---- what begins with the script ---- */

/* Directories of pods of this job whose agent was killed; the names begin with the job's id. */
static int sweep_main(void *arg, int out)
{
	const struct agent *a = arg;
	const char *own = strrchr(a->task.pod_dir, '/');
	char base[4096], prefix[16];
	const struct dirent *e;

	if (!own || own == a->task.pod_dir)
		return 0;
	snprintf(base, sizeof(base), "%.*s", (int)(own - a->task.pod_dir), a->task.pod_dir);
	snprintf(prefix, sizeof(prefix), "%u.", a->task.job_id);
	own++;
	cleanup_dir DIR *d = opendir(base);
	while (d && dir_next(d, &e) > 0) {
		char path[4400];

		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || strncmp(e->d_name, own, strlen(own)) == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		pod_cleanup(path);
	}
	return 0;
}

static void sweep(struct agent *a)
{
	struct proc_spec s = { .main = sweep_main, .main_arg = a, .keep_fd = -1, .arg = a };

	if (a->task.restart_count > 0)
		proc_start(&a->loop, &a->start.sweep, &s, NULL);
}

void start_service(struct agent *a)
{
	struct status *s = &a->pub.status;

	a->start.ran = true;
	snprintf(s->state, sizeof(s->state), "running");
	if (a->start.error[0] || a->start.output[0])
		snprintf(s->error, sizeof(s->error), "%.*s%s%.*s", a->start.error[0] ? 120 : 250, a->start.output,
			 a->start.output[0] && a->start.error[0] ? "; " : "", a->start.output[0] ? 130 : 250,
			 a->start.error);
	for (int sig = 1; sig < NSIG; sig++)
		if (sigismember(&a->restore.pending, sig) == 1)
			pod_deliver(a, sig, SIG_SCOPE_SCRIPT);
	sigemptyset(&a->restore.pending);
	lease_start(a);
	sched_start(a);
	notice_start(a);
	requests_start(a); /* publishes when it knows the port */
	sweep(a);
}

/* ---- the beginning ---- */

static int find_libexec(struct agent *a, struct err *err)
{
	ssize_t n = readlink("/proc/self/exe", a->libexec, sizeof(a->libexec) - 1);
	char *slash;

	if (n <= 0)
		return err_sys(err, errno, "cannot read /proc/self/exe");
	a->libexec[n] = '\0';
	slash = strrchr(a->libexec, '/');
	*slash = '\0';
	return 0;
}

static void quiet_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3 && fd >= 0; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void on_deliver(void *arg, int sig, enum sig_scope scope)
{
	struct agent *a = arg;

	if (a->phase == PHASE_RUNNING)
		pod_deliver(a, sig, scope);
	else if ((a->phase == PHASE_STARTING || a->phase == PHASE_RESTORING) && scope != SIG_SCOPE_ALL)
		sigaddset(&a->restore.pending, sig);
}

static void on_signal(void *arg, int sig)
{
	struct agent *a = arg;

	if (sig == SIGCONT)
		a->lease.continued = now_us();
	signals_own(&a->signals, sig);
	end_signal(a, sig);
}

static void init_status(struct agent *a)
{
	struct status *s = &a->pub.status;

	snprintf(s->state, sizeof(s->state), "enabled");
	s->interval = a->task.interval;
	memcpy(s->uuid, a->task.uuid, sizeof(s->uuid));
}

int start_begin(struct agent *a, int task_fd, struct err *err)
{
	char prefix[32], restarts[16];
	struct err why;

	a->gate.fd = a->pod.ctl.fd = a->restore.ctl.fd = a->restore.ctl_fd = a->req.listen.fd = a->written.source.fd = -1;
	a->pod.script_fd = -1;
	if (mailbox_make(&a->mailbox))
		errno = 0; /* what a worker would leave to the next one, that one finds out anew */
	a->store.dirfd = a->store.epochsfd = -1;
	sigemptyset(&a->restore.pending);
	umask(022);
	log_open(LOG_TO_SYSLOG, "fsched-agent", NULL);
	if (task_read(&a->task, task_fd, err) < 0 || find_libexec(a, err) < 0 || loop_init(&a->loop, err) < 0)
		return -1;
	snprintf(prefix, sizeof(prefix), "job %u", a->task.job_id);
	log_prefix(prefix);
	snprintf(restarts, sizeof(restarts), "%u", a->task.restart_count);
	if (setenv("FSCHED_RESTART_COUNT", restarts, 1)) /* for fsched-slurm */
		return err_sys(err, errno, "cannot set the environment");
	if (chdir("/") < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return err_sys(err, errno, "cannot become the job's supervisor");
	conf_defaults(&a->conf);
	if (job_open_conf(a, &why) < 0)
		unprotected(a, &why);
	quiet_stdio();
	init_status(a);
	a->loop.on_signal = on_signal;
	a->loop.signal_arg = a;
	fcntl(a->task.ctl_fd, F_SETFD, FD_CLOEXEC);
	fcntl(a->task.gate_fd, F_SETFD, FD_CLOEXEC);
	pod_adopt(a, a->task.init_pid, a->task.ctl_fd, a->task.pod_dir);
	pod_set_script(a, a->task.script_pid);
	if (signals_start(&a->signals, &a->loop, on_deliver, a, err) < 0)
		return -1;
	if (loop_add(&a->loop, &a->gate, a->task.gate_fd, on_gate, a) < 0)
		return err_sys(err, errno, "cannot watch the script's process");
	return 0;
}
