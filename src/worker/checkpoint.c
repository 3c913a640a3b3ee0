/* One checkpoint: N.partial is written, made durable, read back, renamed. Until the rename every failure leaves nothing
 * behind.
 *
 * Before that it waits for its turn (writers.c), checks everything (check_before_freeze()), and copies ahead.
 *
 * create, periodic:  freeze, dump, record files, thaw | manifest, sync, verify, commit
 * vacate:            freeze, dump, record files, manifest, sync, verify, commit, "held" -> kill | resume: thaw
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "base/util.h"
#include "base/clock.h"
#include "base/json.h"
#include "criu/dummy_parent.h"
#include "pod/mount_table.h"
#include "pod/pod.h"
#include "pod/pod_network.h"
#include "pod/pod_tmp.h"
#include "pod/preflight.h"
#include "policy/obstacle.h"

/* After this the job is thawed: an agent that has not decided by then does not come back. */
#define HELD_MAX_MS        180000
#define KILL_WAIT_MS       30000
#define STRAYS_MS          1000
#define STRAYS_STEP_MS     20
#define TRACE_LOCK_WAIT_MS 10000 /* `able` holds the lock while it stops a few processes, if any, for some ms */
#define HELD_SECONDS       ((HELD_MAX_MS + KILL_WAIT_MS) / 1000 + 10)
#define NO_LIMIT           (UINT64_C(1) << 62)
#define TRIES_MAX          4
#define AGAIN_MS           50 /* after which what has just happened in the job may be over */
#define NICE               10 /* for what is done while the job computes again */

struct checkpoint {
	struct worker *w;
	struct manifest m;
	struct criu_dump dump;
	struct write_list_step write_list;
	struct previous_files previous;
	struct files_early *early; /* copies made before the freeze */
	int tmp_stat;              /* for c->early; -1: there is none */
	struct memory_step memory;
	struct mount_table *mounts; /* of the pod, in the freeze */
	unsigned freeze;            /* its limit, s */
	int epochfd, criufd, filesfd;
	bool reached; /* criu has dumped all processes */
	bool committed;
	int64_t frozen_at; /* now_us() */
	int64_t stood_us;  /* us. Vacate: from the freeze until the epoch was durable; the job's processes are never
			    * thawed
			    */
};

static bool checkpoint_closes_tcp(const struct worker *w)
{
	return (w->req.tcp_given ? w->req.tcp : w->conf.tcp) == CONF_TCP_CLOSE;
}

static struct files_opts checkpoint_files_opts(const struct worker *w)
{
	return (struct files_opts){
		.file_limit = w->conf.file_limit ? w->conf.file_limit : NO_LIMIT,
		.tmp_limit = w->conf.tmp_limit ? w->conf.tmp_limit : NO_LIMIT,
		.private_tmp = w->req.private_tmp,
		.scratch = &w->scratch,
		.cred = worker_cred(w),
		.names = &w->names,
		.runs_on = !w->req.vacate,
		.must_save = true,
	};
}

static int checkpoint_record_files(struct checkpoint *c, const struct tree *t, struct err *err)
{
	struct worker *w = c->w;
	struct files_opts o = checkpoint_files_opts(w);
	int rc;

	c->m.max_pid = t->max_pid;
	o.carry = c->memory.objects ? memory_shared_carry : NULL;
	o.carry_arg = c->memory.objects;
	o.early = c->early;
	rc = files_record(t->pids, t->n, w->req.init, c->filesfd, &o, c->m.files, w->warnings, err);
	c->m.tmp.apart = files_early_used_for_tmp(c->early);
	if (rc || write_list_freeze(&c->write_list, w, c->m.files, err))
		return err_wrap(err, "the job's files cannot be saved");
	return 0;
}

/* Between the preflight and the freeze the job may have started a set-user-ID program or opened a file that cannot be
 * restored. An epoch with these would be refused at every restore. */
static int checkpoint_check_images(const struct checkpoint *c, struct err *err)
{
	const struct files_cred cred = worker_cred(c->w);

	if (criu_check_creds(c->criufd, cred.uid, cred.gid, cred.groups, cred.n_groups, err))
		return -1;
	if (fault(c->w, FAULT_NO_IMAGE_CHECK) || preflight_images(c->criufd, c->mounts, err) == 0)
		return 0;
	return err_wrap(err,
			"the job opened a file that cannot be checkpointed when it was about to be frozen; try again");
}

/* Everything between the last byte of data and a complete epoch. */
static int checkpoint_seal(struct checkpoint *c, struct err *err)
{
	struct worker *w = c->w;
	const struct files_cred cred = worker_cred(w);

	files_early_close(c->early); /* removes what was not used */
	c->early = NULL;
	if (checkpoint_check_images(c, err) || memory_finish(&c->memory, w, c->epochfd, c->criufd, &c->m, err))
		return -1;
	fault_die(w, FAULT_DIE_BEFORE_MANIFEST);
	if (!w->req.vacate)
		setpriority(PRIO_PROCESS, 0, NICE); /* the job computes again */
	event_phase("sync");
	if (write_list_finish(&c->write_list, w, &c->m, c->dump.freeze_began, err) || files_sync(c->m.files, &cred, err))
		return err_wrap(err, "the job's files cannot be saved");
	c->m.time = c->dump.freeze_began / 1000000;
	c->m.frozen_us = c->dump.frozen_us;
	if (manifest_write(c->epochfd, &c->m, w->req.sign, w->conf.munge_socket, err) ||
	    space_check_written(w, c->m.bytes - c->m.linked, err) || store_sync_epoch(&w->store, w->req.epoch, err))
		return -1;
	fault_die(w, FAULT_DIE_BEFORE_VERIFY);
	event_phase("verify");
	if (verify_written(w, c->epochfd, err))
		return -1;
	event_phase("commit");
	fault_die(w, FAULT_DIE_BEFORE_COMMIT);
	if (store_commit_epoch(&w->store, w->req.epoch, err))
		return -1;
	c->committed = true;
	writers_end(w);
	fault_die(w, FAULT_DIE_AFTER_COMMIT);
	if (!c->m.memory.increment)
		store_full_made(&w->store);
	if (w->req.vacate)
		c->stood_us = now_us() - c->frozen_at;
	return 0;
}

/* us. Of a job that runs on criu has measured it. */
static int64_t frozen_time(const struct checkpoint *c)
{
	return c->dump.frozen_us ? c->dump.frozen_us : c->stood_us;
}

static json_t *checkpoint_result(const struct checkpoint *c)
{
	const struct worker *w = c->w;
	char memory[MANIFEST_MEMORY_TEXT], closed[160];

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:O}", "epoch", (json_int_t)w->req.epoch,
			 "bytes", (json_int_t)c->m.bytes, "written", (json_int_t)(c->m.bytes - c->m.linked), "time",
			 (json_int_t)c->m.time, "frozen_us", (json_int_t)frozen_time(c), "total_us",
			 (json_int_t)(now_us() - w->began), "files", (json_int_t)json_array_size(c->m.files), "memory",
			 json_text(manifest_memory_text(&c->m, memory)), "memory_why", json_text(c->m.memory.why),
			 "closed", json_text(manifest_closed_text(&c->m, closed, sizeof(closed))), "warnings",
			 w->warnings);
}

/* The epoch is durable. The agent requeues the job at Slurm and then decides whether the pod is killed or thawed.
 * Returns 1: it was killed, 0: it is to be thawed, -1 with err. */
static int checkpoint_hold(struct checkpoint *c, struct err *err)
{
	struct worker *w = c->w;
	char word[32];

	event_send("held", checkpoint_result(c));
	fault_die(w, FAULT_DIE_HELD);
	fault_criu_dies(w, FAULT_CRIU_DIES_HELD, w->req.init);
	/* CheckpointTimeout limits the checkpoint, which is complete. */
	if (deadline_set(0, err) || freeze_allow(w, &c->dump, HELD_SECONDS, err))
		return -1;
	do {
		if (!request_word(word, sizeof(word), HELD_MAX_MS))
			return 0;
	} while (!strcmp(word, "go")); /* a late answer to "frozen" */
	if (strcmp(word, "kill"))
		return 0;
	return pod_kill(w->req.init, KILL_WAIT_MS, err) ? -1 : 1;
}

/* Borrows t. */
static struct preflight_job preflight_job_of(const struct worker *w, const struct tree *t)
{
	return (struct preflight_job){
		.pids = t->pids,
		.inner = t->inner,
		.n = t->n,
		.init = w->req.init,
		.agent_port = w->req.agent_port,
		.tcp_close = checkpoint_closes_tcp(w),
		.uid = w->req.uid,
		.gid = w->req.gid,
		.groups = w->req.groups,
		.n_groups = w->req.n_groups,
	};
}

/* criu's images do not contain Landlock domains. */
static int checkpoint_check_confined(const struct checkpoint *c, const struct tree *t, struct err *err)
{
	const struct preflight_job job = preflight_job_of(c->w, t);

	return fault(c->w, FAULT_NO_PREFLIGHT) ? 0 : preflight_confined_stopped(&job, c->dump.remote_call, err);
}

/* What is read of the frozen tree before the snapshot, which forks children in the job that are no processes of the
 * job. */
static int checkpoint_read_tree(struct checkpoint *c, struct err *err)
{
	struct tree t;
	int rc;

	/* New processes may have been started since the preflight. */
	if (tree_check(c->w->req.init, c->criufd, err) || tree_read(c->w->req.init, &t, err))
		return -1;
	c->m.threads = thread_attributes_read(&t);
	c->m.options = socket_options_read(c->w, &t);
	watches_warn(c->w, &t);
	space_attributes_freeze(c->w, &t, c->dump.remote_call, criu_has_semaphores(c->criufd), c->m.spaces);
	c->m.sockets = moved_sockets_read(c->dump.names_fd);
	c->m.closed = closed_tcp_read(c->dump.names_fd);
	rc = checkpoint_check_confined(c, &t, err) || checkpoint_record_files(c, &t, err) ? -1 : 0;
	tree_free(&t);
	return rc;
}

static void checkpoint_warn_of_closed(const struct checkpoint *c)
{
	char text[512];

	if (json_array_size(c->m.closed))
		worker_warn(c->w, "TCP connections out of the job are not saved: after a restart they will be closed: %s",
			    manifest_closed_text(&c->m, text, sizeof(text)));
}

static int dump_on_frozen(void *arg, struct err *err)
{
	struct checkpoint *c = arg;
	int rc;

	c->reached = true;
	c->mounts = mount_table_read(c->w->req.init, err);
	if (!c->mounts)
		return -1;
	fault_die(c->w, FAULT_DIE_FROZEN);
	fault_hang(c->w, FAULT_HANG_FROZEN);
	fault_criu_dies(c->w, FAULT_CRIU_DIES_FROZEN, c->w->req.init);
	fault_criu_hangs(c->w, FAULT_CRIU_HANGS_FROZEN, c->w->req.init);
	fault_driver_hangs(c->w, FAULT_DRIVER_HANGS, c->w->req.init);
	event_phase("files");
	rc = checkpoint_read_tree(c, err) || memory_freeze(&c->memory, c->w, c->epochfd, c->criufd, &c->dump, err) ? -1
														   : 0;
	if (!criu_still_frozen(&c->dump))
		return err_set(err, 0, "criu was killed while the job was saved");
	if (rc)
		return -1;
	checkpoint_warn_of_closed(c);
	if (!c->w->req.vacate)
		return 0;
	/* From now on only CheckpointTimeout limits how long the job stays frozen: it is not going to run on here. */
	if (freeze_allow(c->w, &c->dump, conf_checkpoint_seconds(&c->w->conf), err) || checkpoint_seal(c, err))
		return -1;
	return checkpoint_hold(c, err);
}

/* Checks what the job has started, opened or allocated since the preflight, and finds names for files that have lost
 * theirs since.
 */
static int dump_on_stopped(void *arg, struct err *err)
{
	struct checkpoint *c = arg;
	const struct files_opts o = checkpoint_files_opts(c->w);
	struct preflight_job job;
	struct tree t;
	int rc;

	if (tree_read(c->w->req.init, &t, err))
		return -1;
	job = preflight_job_of(c->w, &t);
	rc = preflight_stopped(&job, err) || space_check_stopped(c->w, t.pids, t.n, err) ||
			     files_names_find(&c->w->names, t.pids, t.n, c->w->req.init, &o, true, err)
		     ? -1
		     : 0;
	tree_free(&t);
	return rc || unlinked_names_write(&c->w->names, &c->w->req, c->dump.names_fd, err) ? -1 : 0;
}

static void dump_on_phase(void *arg, const char *name)
{
	struct checkpoint *c = arg;

	if (!strcmp(name, "frozen")) {
		c->frozen_at = now_us();
		freeze_begins(c->w, c->freeze, NULL);
	}
	event_phase(name);
	c->w->frozen_unanswered += c->w->req.write_list && !strcmp(name, "frozen");
	if (strcmp(name, "frozen"))
		return;
	fault_hang(c->w, FAULT_HANG_AT_FREEZE);
	fault_criu_hangs(c->w, FAULT_CRIU_HANGS, c->w->req.init);
}

static int checkpoint_open_dirs(struct checkpoint *c, struct err *err)
{
	c->epochfd = store_begin_epoch(&c->w->store, c->w->req.epoch, err);
	if (c->epochfd < 0)
		return -1;
	c->criufd = openat(c->epochfd, "criu", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	c->filesfd = openat(c->epochfd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->criufd < 0 || c->filesfd < 0)
		return err_sys(err, errno, "cannot open the new epoch's directories in %s", c->w->store.path);
	return 0;
}

static void checkpoint_fill_manifest(struct checkpoint *c)
{
	const struct request *r = &c->w->req;
	struct manifest *m = &c->m;

	m->epoch = r->epoch;
	m->run = r->run;
	snprintf(m->reason, sizeof(m->reason), "%s", r->reason);
	snprintf(m->uuid, sizeof(m->uuid), "%s", r->uuid);
	snprintf(m->script, sizeof(m->script), "%s", r->script);
	m->uid = r->uid;
	m->gid = r->gid;
	m->private_tmp = r->private_tmp;
	m->leader_pid = 2;
	if (c->w->net.hostname[0]) {
		m->network.own = true;
		memcpy(m->network.hostname, c->w->net.hostname, sizeof(m->network.hostname));
		memcpy(m->network.address, c->w->net.address, sizeof(m->network.address));
	}
	m->tmp.size = c->w->tmp.size;
	m->tmp.device = c->w->tmp.device;
	m->scratch = files_scratch_render(&c->w->scratch);
	m->files = json_array();
	manifest_fingerprint(m, c->w->criu.version);
}

/* What fsched's own memory engine takes: all memory that it can, private memory only, or none. criu takes the rest. */
enum engine { ENGINE_ALL, ENGINE_PRIVATE, ENGINE_NONE };

/* A criu and its driver that were killed together with an earlier worker may exist for another moment as children of
 * pid 1, so the check is repeated for up to STRAYS_MS. */
static int await_sound_tree(const struct worker *w, struct err *err)
{
	int64_t end = now_us() + STRAYS_MS * 1000;

	while (tree_check(w->req.init, -1, err)) {
		if (now_us() > end)
			return -1;
		usleep(STRAYS_STEP_MS * 1000);
	}
	return 0;
}

/* All checks that are possible before the freeze. wait_ms: how long to wait for another worker that stops processes of
 * the job. */
static int check_before_freeze(struct worker *w, int wait_ms, struct err *err)
{
	const struct files_opts o = checkpoint_files_opts(w);
	const struct files_scratch_search search = { w->conf.scratch, w->req.job_id, w->req.uid, w->req.private_tmp };
	struct preflight_job job;
	struct tree t;
	int rc;

	event_phase("preflight");
	if (pod_network_load(w->req.pod_dir, &w->net, err) < 0 || pod_tmp_load(w->req.pod_dir, &w->tmp, err) < 0)
		return -1;
	if (criu_locate(w->conf.criu, w->libexec, &w->criu, err) ||
	    criu_act_for(&w->criu, w->req.uid, w->req.gid, w->req.groups, w->req.n_groups, err) ||
	    await_sound_tree(w, err) || tree_read(w->req.init, &t, err))
		return -1;
	files_scratch_find(&w->scratch, &search, t.pids, t.n);
	job = preflight_job_of(w, &t);
	/* A checkpoint (wait_ms > 0) checks everything even if the holder of the lock hangs. */
	job.hands_off = !trace_lock_take(w, wait_ms) && !wait_ms;
	rc = (!fault(w, FAULT_NO_PREFLIGHT) && preflight(&job, err)) ||
			     files_names_find(&w->names, t.pids, t.n, w->req.init, &o, false, err) ||
			     files_can_record(t.pids, t.n, w->req.init, &o, &w->files, err) ||
			     space_check(w, t.pids, t.n, err)
		     ? -1
		     : 0;
	tree_free(&t);
	return rc;
}

int worker_preflight(struct worker *w, struct err *err)
{
	if (check_before_freeze(w, 0, err))
		return -1;
	event_send("result", json_pack("{s:b}", "ok", 1));
	return 0;
}

/* As the last step before the freeze, so that little changes meanwhile. */
static int checkpoint_copy_early(struct checkpoint *c, const struct files_opts *o, struct err *err)
{
	const int before = getpriority(PRIO_PROCESS, 0);
	struct files_early_opts eo;
	struct worker *w = c->w;
	struct tree t;
	int rc;

	if (tree_read(w->req.init, &t, err))
		return -1;
	/* Pages that the worker maps count as its memory, which may end a job with OverMemoryKill (MemoryEngine =
	 * criu). */
	c->tmp_stat = w->tmp.size && w->conf.engine != CONF_ENGINE_CRIU ? pod_tmp_open_stat(&w->tmp) : -1;
	eo = (struct files_early_opts){
		.filesfd = c->filesfd,
		.previous = c->previous.m.files,
		.previous_filesfd = c->previous.filesfd,
		.device = c->tmp_stat < 0 ? 0 : pod_tmp_device(&w->tmp),
		.device_stat = c->tmp_stat,
	};
	c->early = files_early_open(&eo);
	/* A vacate may have to be quick: Slurm waits for the node. */
	if (!w->req.vacate)
		setpriority(PRIO_PROCESS, 0, NICE);
	c->m.spaces = space_attributes_scan(w, &t);
	rc = files_early_prepare(c->early, t.pids, t.n, w->req.init, o, err);
	setpriority(PRIO_PROCESS, 0, before);
	tree_free(&t);
	return rc;
}

/* why_criu: with ENGINE_NONE, why criu is to write the memory. */
static int checkpoint_dump(struct checkpoint *c, enum engine engine, const char *why_criu, struct err *err)
{
	struct worker *w = c->w;
	const struct files_opts o = checkpoint_files_opts(w);
	int rc;

	checkpoint_fill_manifest(c);
	if (engine == ENGINE_ALL)
		tracking_begin(&c->memory, w, c->epochfd);
	previous_files_open(&c->previous, w);
	if (write_list_begin(&c->write_list, w, c->filesfd, &c->previous, &o, err))
		return err_wrap(err, "the job's files cannot be saved");
	c->dump = (struct criu_dump){
		.init = w->req.init,
		.images_fd = c->criufd,
		.work_fd = w->store.dirfd,
		.ghost_limit = o.file_limit,
		.names_fd = memfd_create("names", MFD_CLOEXEC),
		.tcp_close = checkpoint_closes_tcp(w),
		.phase = dump_on_phase,
		.stopped = dump_on_stopped,
		.frozen = dump_on_frozen,
		.arg = c,
	};
	if (c->dump.names_fd < 0)
		return err_sys(err, errno, "cannot make a file for names");
	c->memory.leave_shared = engine == ENGINE_PRIVATE || fault(w, FAULT_NO_ELISION);
	if (engine != ENGINE_NONE)
		memory_begin(&c->memory, w, c->criufd);
	else
		snprintf(c->memory.why_criu, sizeof(c->memory.why_criu), "%s", why_criu);
	c->dump.elide_parent = c->memory.on && !fault(w, FAULT_NO_ELISION) ? DUMMY_PARENT : NULL;
	c->dump.elide_shared = c->memory.objects != NULL;
	c->freeze = c->memory.on ? freeze_limit(w, w->memory, 0) : freeze_limit(w, 0, w->memory);
	c->dump.freeze_limit = c->freeze;
	c->dump.freeze_configured = w->conf.freeze_timeout;
	if (checkpoint_copy_early(c, &o, err))
		return err_wrap(err, "the job's files cannot be saved");
	fault_die(w, FAULT_DIE_BEFORE_FREEZE);
	fault_wait(w, FAULT_WAIT_BEFORE_FREEZE);
	event_phase("dump");
	if (freeze_expected(w, c->freeze, err))
		return -1;
	rc = criu_dump(&w->criu, &c->dump, err);
	if (freeze_deadline(0, 0, rc ? NULL : err) || rc)
		return -1;
	return c->committed ? 0 : checkpoint_seal(c, err);
}

static void checkpoint_end(struct checkpoint *c)
{
	memory_end(&c->memory, c->epochfd);
	write_list_end(&c->write_list);
	files_early_close(c->early);
	previous_files_close(&c->previous);
	cleanup_closep(&c->tmp_stat);
	mount_table_free(c->mounts);
	manifest_free(&c->m);
	cleanup_closep(&c->epochfd);
	cleanup_closep(&c->criufd);
	cleanup_closep(&c->filesfd);
	cleanup_closep(&c->dump.names_fd);
}

/* Makes one attempt. err is not NULL; err->num EAGAIN: the same attempt may succeed now; ETIME, EFBIG, EDQUOT: the
 * freeze was too long or a limit is exceeded, so there is no other attempt. *engine: what the engine is to take; after
 * a failure: what it is to take in the next attempt. why_criu: as above. *again: another attempt may succeed.
 */
static int checkpoint_attempt(struct worker *w, enum engine *engine, const char *why_criu, bool *refused, bool *again,
			      struct err *err)
{
	struct checkpoint c = { .w = w,
				.previous.filesfd = -1,
				.tmp_stat = -1,
				.epochfd = -1,
				.criufd = -1,
				.filesfd = -1,
				.dump.names_fd = -1 };
	json_t *o;
	int rc = checkpoint_open_dirs(&c, err);

	*again = false;
	if (rc == 0) {
		*refused = false;
		rc = checkpoint_dump(&c, *engine, why_criu, err);
	}
	if (rc && !c.committed)
		store_abort_epoch(&w->store, w->req.epoch);
	if (rc == 0) {
		tracking_leave(&c.memory, w);
		o = checkpoint_result(&c);
		json_object_set_new(o, "ok", json_true());
		event_send("result", o);
	}
	*again = rc && !c.committed && c.memory.on && (c.memory.failed || !c.reached) && err->num != ENOSPC &&
		 err->num != EFBIG && err->num != EDQUOT && err->num != ETIME && tree_is_there(w->req.init);
	if (*again && !c.memory.failed && obstacle_retry_checkpoint(err->text))
		err->num = EAGAIN; /* with another engine it would fail as well */
	if (rc && err->num == EAGAIN)
		*again = true;
	else
		*engine = c.memory.shared_failed ? ENGINE_PRIVATE : ENGINE_NONE;
	checkpoint_end(&c);
	return rc;
}

/* After a failure of the memory engine, or of a criu with which it does not work, the next attempt leaves shared
 * memory, and then all memory, to criu. */
int worker_checkpoint(struct worker *w, bool *refused, struct err *err)
{
	enum engine engine = ENGINE_ALL;
	char why_criu[320] = "";
	bool again;
	int tries = 0;

	*refused = false;
	if (writers_begin(w, err))
		return -1;
	*refused = true;
	if (check_before_freeze(w, TRACE_LOCK_WAIT_MS, err))
		return -1;
	while (checkpoint_attempt(w, &engine, why_criu, refused, &again, err)) {
		if (!again || ++tries == TRIES_MAX) {
			quota_end(w);
			return -1;
		}
		if (err->num == EAGAIN) {
			usleep(AGAIN_MS * 1000);
			continue;
		}
		snprintf(why_criu, sizeof(why_criu), "%.300s", err->text);
		worker_warn(w, "criu had to write the job's %s itself, because: %.500s",
			    engine == ENGINE_PRIVATE ? "shared memory" : "memory", err->text);
	}
	return 0;
}
