/* A proof: a real restore of an epoch, in a pod that is kept apart from the node, which is thrown away afterwards.
 *
 * The worker verifies the epoch as for any restore. Then it leaves the view that others have of the files
 * (pod/apart.h), so that all that follows changes nothing: the job's files are put back, processes are made, and, if
 * wanted, run for a while. The pod has a network without a way out and a limit of its memory (pod/alone.h). The
 * journals of the job are read only, its lease is not taken, and its commands before and after checkpoints are not run.
 *
 * What a proof shows is recorded in the job's directory (store/proofs.h), unless it was not possible for a reason that
 * is not the epoch's: no room, another node, an epoch that was removed meanwhile. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "pod/alone.h"
#include "pod/apart.h"
#include "pod/pod.h"
#include "policy/obstacle.h"
#include "store/proofs.h"

#define PROVE_KILL_MS 30000
#define PROVE_TICK_MS 200
#define PROVE_LOG_MAX (1 << 20)

struct prove {
	struct worker *w;
	struct proof proof;
	struct apart apart;
	struct alone_cgroup cgroup;
	struct restored done;
	uint64_t memory;   /* limit, bytes */
	int work;          /* the pod's directory */
	int ctl[2];        /* the control socket: this end, pid 1's */
	bool not_possible; /* what failed is not the epoch's fault */
	bool read_only;    /* files of the job may be on a file system where the proof cannot write */
};

static struct pod_cred prove_cred(const struct request *q)
{
	return (struct pod_cred){ q->uid, q->gid, q->groups, q->n_groups };
}

/* ---- before the restore ------------------------------------------------------------- */

static int prove_lock(const struct worker *w, struct err *err)
{
	cleanup_close int fd = openat(w->store.dirfd, STORE_PROVE_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(err, errno, "cannot open %s/" STORE_PROVE_LOCK, w->store.path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? err_set(err, EBUSY, "another proof of an epoch of this job is under way")
					    : err_sys(err, errno, "cannot lock %s/" STORE_PROVE_LOCK, w->store.path);
	return steal_fd(&fd);
}

/* What the record of the job says of the epoch: its manifest may be damaged. */
static void prove_look_up(struct prove *p)
{
	cleanup_free struct job_record *rec = xcalloc(1, sizeof(*rec));
	const struct epoch_summary *e;

	if (store_load_record(&p->w->store, rec, NULL))
		return;
	e = record_find_epoch(rec, p->w->req.epoch);
	p->proof.epoch_time = e ? e->time : 0;
}

static int prove_prepare(struct prove *p, struct err *err)
{
	struct worker *w = p->w;
	struct pod_spec spec = { .tmp_mount = -1, .net_ns = -1 };

	snprintf(spec.dir, sizeof(spec.dir), "%s", w->req.pod_dir);
	if (w->req.uid == 0)
		return err_set(err, EPERM,
			       "a job of root cannot be kept apart from the node that it runs on; restore it to prove it");
	if (pod_prepare(&spec, err))
		return -1;
	p->work = open(spec.dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->work < 0)
		return err_sys(err, errno, "cannot open %s", spec.dir);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->ctl))
		return err_sys(err, errno, "cannot make the pod's control socket");
	w->req.ctl_fd = p->ctl[1];
	return 0;
}

static void prove_on_overlay(void *arg, int over, int lower)
{
	(void)arg;
	files_seen_through(over, lower);
}

static void prove_on_read_only(void *arg, const char *text)
{
	struct prove *p = arg;

	p->read_only = true;
	worker_warn(p->w, "%s; Unix sockets of the node there can be reached", text);
}

/* The epoch is verified. The memory of pid 1 and its children counts from when it enters the cgroup. */
static int prove_enter(void *arg, const struct manifest *m, int filesfd, struct err *err)
{
	struct prove *p = arg;
	const struct pod_cred cred = prove_cred(&p->w->req);
	const struct apart_opts o = { .dir = p->w->req.pod_dir,
				      .cred = &cred,
				      .overlaid = prove_on_overlay,
				      .read_only = prove_on_read_only,
				      .arg = p };
	int rc;

	p->not_possible = true;
	if (prove_room(p->w, m, filesfd, &p->memory, err))
		return -1;
	alone_cgroup_make(&p->cgroup, strrchr(p->w->req.pod_dir, '/') + 1, p->memory, p->w->req.low);
	rc = apart_enter(&p->apart, &o, err);
	if (!rc)
		p->not_possible = false;
	return rc;
}

/* ---- the pod ------------------------------------------------------------------------- */

static int prove_no_memory(struct prove *p, struct err *err)
{
	char size[16];

	p->not_possible = true;
	return err_set(err, ENOMEM, "it takes more memory than a proof may have (%s)",
		       format_size(p->memory, size, sizeof(size)));
}

/* The pod has ended by itself. */
static int prove_explain_death(struct prove *p, const char *what, struct err *err)
{
	char log[400];

	if (alone_cgroup_was_full(&p->cgroup))
		return prove_no_memory(p, err);
	criu_log_explain(p->work, "restore.log", log, sizeof(log));
	return err_set(err, 0, "%s", log[0] ? log : what);
}

/* Waits for a message of pid 1. 1: msg has it. 0: none came within PROVE_TICK_MS. -1: the pod has ended. */
static int prove_hear(const struct prove *p, char *msg, size_t len)
{
	struct pollfd f = { p->ctl[0], POLLIN, 0 };
	const int n = poll(&f, 1, PROVE_TICK_MS);
	int got;

	if (n <= 0)
		return 0;
	got = pod_recv(p->ctl[0], msg, len);
	return got > 0 ? 1 : got < 0 && errno == EINTR ? 0 : -1;
}

/* Waits until criu has made all processes. */
static int prove_await(struct prove *p, struct err *err)
{
	const int64_t end = now_us() + (int64_t)p->w->conf.timeout * 1000000;
	char msg[512];

	while (now_us() < end)
		switch (prove_hear(p, msg, sizeof(msg))) {
		case 1:
			if (!strncmp(msg, "restored", 8))
				return 0;
			if (!strncmp(msg, "failed ", 7))
				return prove_explain_death(p, msg + 7, err);
			break;
		case -1: return prove_explain_death(p, "the restored processes died at once", err);
		default: break;
		}
	return err_set(err, ETIMEDOUT, "criu did not finish within CheckpointTimeout (%u s)", p->w->conf.timeout);
}

/* How many processes the restored job has. */
static unsigned prove_count(const struct prove *p)
{
	cleanup_free pid_t *pids = NULL;
	const int n = pod_pids(p->done.pod.init, &pids, NULL);

	return n > 1 ? (unsigned)n - 1 : 0; /* without fsched-leader */
}

/* Where no cgroup limits the memory. */
static bool prove_is_over(const struct prove *p)
{
	return !p->cgroup.limits && prove_memory_of(p->done.pod.init) > p->memory;
}

static int prove_job_ended(struct prove *p, int status, struct err *err)
{
	char ran[24], how[40];

	format_duration(p->proof.ran_us, ran, sizeof(ran));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (alone_cgroup_was_full(&p->cgroup))
		return prove_no_memory(p, err);
	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "ended with exit status %d", WEXITSTATUS(status));
	return err_set(err, 0, "it was restored and %s after it had run for %s without a network", how, ran);
}

static int prove_let_run(struct prove *p, struct err *err)
{
	const int64_t began = now_us(), end = began + (int64_t)p->w->req.seconds * 1000000;
	char msg[512];
	int status, got;

	event_phase("run");
	while (now_us() < end) {
		got = prove_hear(p, msg, sizeof(msg));
		p->proof.ran_us = now_us() - began;
		if (got > 0 && sscanf(msg, "exit %d", &status) == 1)
			return prove_job_ended(p, status, err);
		if (got < 0)
			return prove_explain_death(p, "it was restored, and then all of its processes died", err);
		if (prove_is_over(p))
			return prove_no_memory(p, err);
	}
	return 0;
}

static void prove_kill(struct prove *p)
{
	const pid_t init = p->done.pod.init;

	if (init <= 0)
		return;
	if (pod_kill(init, PROVE_KILL_MS, NULL))
		worker_warn(p->w, "processes of the proof are still there after %d s", PROVE_KILL_MS / 1000);
	while (waitpid(init, NULL, 0) < 0 && errno == EINTR)
		;
}

static int prove_restore(struct prove *p, struct err *err)
{
	struct worker *w = p->w;
	const struct restore_way way = {
		.work_fd = p->work, .leave_stopped = !w->req.seconds, .alone = &p->cgroup, .verified = prove_enter, .arg = p
	};
	bool refused;
	int rc = restore_run(w, &way, &p->done, &refused, err);

	close(steal_fd(&p->ctl[1]));
	w->req.ctl_fd = -1;
	if (rc) {
		p->not_possible |= w->node_fault;
		return -1;
	}
	if (prove_await(p, err)) {
		p->not_possible |= p->done.differs;
		return -1;
	}
	p->proof.took_us = now_us() - w->began;
	p->proof.processes = prove_count(p);
	return w->req.seconds ? prove_let_run(p, err) : 0;
}

/* ---- afterwards --------------------------------------------------------------------------- */

/* Whether the epoch, or the directory that criu reads, was removed meanwhile: the job has made newer epochs, or was
 * restarted. */
static bool prove_was_overtaken(const struct prove *p)
{
	struct err why = { 0 };
	cleanup_close int fd = store_open_epoch(&p->w->store, p->w->req.epoch, &why);

	return fd < 0 && why.num == ENOENT;
}

static bool prove_blames_epoch(const struct prove *p, const struct err *err)
{
	const enum obstacle_class class = obstacle_class(err->text);

	return !p->not_possible && !p->read_only && class != OBSTACLE_NODE && class != OBSTACLE_PASSES &&
	       !apart_is_full(&p->apart) && !prove_was_overtaken(p);
}

static void prove_keep_log(const struct prove *p)
{
	cleanup_free char *text = NULL;
	const ssize_t n = read_file_at(p->work, "restore.log", PROVE_LOG_MAX, &text);

	if (n > 0 && write_file_atomic(p->w->store.dirfd, "prove.log", 0600, 0, text, (size_t)n))
		worker_warn(p->w, "criu's log cannot be kept as %s/prove.log", p->w->store.path);
}

static void prove_note_node(const struct worker *w, struct proof *proof)
{
	snprintf(proof->node, sizeof(proof->node), "%s", w->req.node);
	if (proof->node[0])
		return;
	if (gethostname(proof->node, sizeof(proof->node) - 1))
		snprintf(proof->node, sizeof(proof->node), "?");
	proof->node[strcspn(proof->node, ".")] = '\0';
}

static int prove_record(struct prove *p, const struct err *failure, struct err *err)
{
	prove_note_node(p->w, &p->proof);
	p->proof.epoch = p->w->req.epoch;
	p->proof.time = time(NULL);
	p->proof.ok = !failure;
	snprintf(p->proof.error, sizeof(p->proof.error), "%.500s", failure ? failure->text : "");
	return proofs_add(&p->w->store, p->w->req.uid, &p->proof, err);
}

static void prove_send_result(const struct prove *p)
{
	event_send("result", json_pack("{s:b, s:i, s:I, s:I, s:I, s:I, s:s, s:O}", "ok", 1, "epoch",
				       (int)p->proof.epoch, "total_us", (json_int_t)p->proof.took_us, "ran_us",
				       (json_int_t)p->proof.ran_us, "processes", (json_int_t)p->proof.processes, "time",
				       (json_int_t)p->proof.time, "node", p->proof.node, "warnings", p->w->warnings));
}

/* prove_guard.c removes the rest. */
static void prove_end(struct prove *p)
{
	apart_leave(&p->apart);
	alone_cgroup_remove(&p->cgroup);
	for (int i = 0; i < 2; i++)
		cleanup_closep(&p->ctl[i]);
	cleanup_closep(&p->work);
}

/* Returns what the worker is to report. */
static int prove_conclude(struct prove *p, int rc, bool *refused, struct err *err)
{
	struct err failure = *err;
	bool blamed;

	prove_kill(p);
	blamed = rc && prove_blames_epoch(p, err);
	if (rc)
		prove_keep_log(p);
	prove_end(p);
	*refused = rc && !blamed;
	if (*refused) {
		p->w->node_fault = false;
		return err_wrap(err, "the epoch can be neither proved nor disproved here");
	}
	if (blamed)
		store_want_full(&p->w->store);
	if (prove_record(p, rc ? &failure : NULL, err))
		return err_wrap(err, "the result of the proof cannot be recorded");
	if (rc)
		*err = failure;
	else
		prove_send_result(p);
	return rc;
}

int worker_prove(struct worker *w, bool *refused, struct err *err)
{
	struct prove p = { .w = w, .work = -1, .ctl = { -1, -1 } };
	cleanup_close int lock = prove_lock(w, err);
	int rc;

	*refused = true;
	p.apart.host = p.apart.changes_fd = -1;
	alone_cgroup_none(&p.cgroup);
	if (lock < 0)
		return -1;
	prove_look_up(&p);
	rc = prove_prepare(&p, err);
	p.not_possible = rc != 0;
	if (!rc)
		rc = prove_restore(&p, err);
	return prove_conclude(&p, rc, refused, err);
}
