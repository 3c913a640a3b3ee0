#include "agent/job.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <nettle/sha2.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "policy/retention.h"
#include "store/usage.h"

#define SCRIPT_MAX (64 << 20) /* Slurm's own limit is 4 MB */
#define LEADER_MAX (64 << 20)
#define KEPT_SHOWN 11 /* of at most 10 digits each, in the status entry */

static void job_log_notice(const char *text, void *arg)
{
	log_info("%s", text);
}

int job_open_conf(struct job *j, struct err *err)
{
	static const enum log_target targets[] = {
		/* the agent's stderr is the job's output file, into which fsched writes nothing */
		[CONF_LOG_SYSLOG] = LOG_TO_SYSLOG,
		[CONF_LOG_STDERR] = LOG_TO_SYSLOG,
		[CONF_LOG_FILE] = LOG_TO_FILE,
	};

	if (j->conf_ok)
		return 0;
	if (conf_load(&j->conf, j->task.config[0] ? j->task.config : NULL, err) < 0) {
		conf_defaults(&j->conf);
		return err_wrap(err, "the configuration of fsched cannot be used");
	}
	log_open(targets[j->conf.log], "fsched-agent", j->conf.log_path);
	conf_notices(&j->conf, job_log_notice, NULL);
	j->conf_ok = true;
	return 0;
}

static void job_new_record(struct job *j)
{
	const struct task *t = &j->task;

	memset(&j->rec, 0, sizeof(j->rec));
	j->rec.job_id = t->job_id;
	j->rec.uid = t->uid;
	j->rec.gid = t->gid;
	j->rec.interval = t->interval;
	j->rec.intent = INTENT_RUNNING;
	j->rec.status = -1;
	memcpy(j->rec.uuid, t->uuid, sizeof(j->rec.uuid));
	memcpy(j->rec.cluster, t->cluster, sizeof(j->rec.cluster));
	memcpy(j->rec.user, t->user, sizeof(j->rec.user));
}

static int job_check_owner(const struct job *j, struct err *err)
{
	if (j->rec.job_id == j->task.job_id && j->rec.uid == j->task.uid && j->rec.gid == j->task.gid)
		return 0;
	return err_set(err, EPERM, "%s/job.json names job %u, uid %u, gid %u, but this is job %u, uid %u, gid %u",
		       j->store.path, j->rec.job_id, (unsigned)j->rec.uid, (unsigned)j->rec.gid, j->task.job_id,
		       (unsigned)j->task.uid, (unsigned)j->task.gid);
}

static bool job_record_has(const struct job *j, unsigned number)
{
	for (unsigned i = 0; i < j->rec.n_epochs; i++)
		if (j->rec.epochs[i].number == number)
			return true;
	return false;
}

/* Removes epochs on disk that the record does not have: an agent died between its two writes. One that is older than
 * the newest in the record should have been removed already. One that is newer is complete, but only its manifest
 * describes it, and nobody was told of it. */
static void job_remove_strays(struct job *j)
{
	unsigned disk[STORE_KEPT_MAX];
	int n = store_list_epochs(&j->store, disk, STORE_KEPT_MAX);
	struct err err;

	for (int i = 0; i < n; i++) {
		if (job_record_has(j, disk[i]))
			continue;
		log_info("epoch %u is not in the job's record (the node failed while it was made or removed); removing it",
			 disk[i]);
		if (store_remove_epoch(&j->store, disk[i], &err) < 0)
			log_warn("%s", err.text);
	}
}

int job_open_dir(struct job *j, struct err *err)
{
	bool moved = false;

	if (j->store.dirfd >= 0)
		return 0;
	if (job_open_conf(j, err) < 0)
		return -1;
	if (store_set_aside(j->conf.dir, j->task.job_id, j->task.uuid, &moved, err) < 0)
		return -1;
	if (moved)
		log_info("a directory of an earlier job with this id was set aside below %s", j->conf.dir);
	return store_open(&j->store, j->conf.dir, j->task.job_id, true, err);
}

/* What this agent has counted while the directory was out of reach comes after what the file has. */
static void job_open_history(struct job *j)
{
	cleanup_free struct job_history *before = xcalloc(1, sizeof(*before));
	struct err err;

	if (history_load(j->store.path, false, before, &err) < 0) {
		if (err.num != ENOENT)
			log_warn("%s; the job's history begins anew", err.text);
		return;
	}
	history_tally_add(&before->tally, &j->history.tally);
	for (unsigned i = 0; i < j->history.n; i++)
		history_add(before, &j->history.v[i]);
	j->history = *before;
}

int job_open_store(struct job *j, struct err *err)
{
	if (j->store_ok)
		return 0;
	if (job_open_dir(j, err) < 0)
		return -1;
	j->have_record = store_load_record(&j->store, &j->rec, err) == 0;
	if (!j->have_record) {
		if (err->num != ENOENT)
			goto fail;
		job_new_record(j);
	} else if (job_check_owner(j, err) < 0) {
		goto fail;
	}
	store_remove_partials(&j->store);
	job_quota_end(j);
	job_remove_strays(j);
	job_open_history(j);
	j->store_ok = true;
	return 0;
fail:
	if (!j->dir_in_use) {
		store_close(&j->store);
		j->store.dirfd = j->store.epochsfd = -1;
	}
	return -1;
}

int job_save(struct job *j, struct err *err)
{
	if (!j->store_ok)
		return err_set(err, 0, "the job's checkpoint directory is not open");
	j->rec.used = job_used(j);
	return store_save_record(&j->store, &j->rec, err);
}

void job_begin_run(struct job *j)
{
	j->used_before = j->rec.used;
	j->began_us = now_us();
}

int64_t job_ran(const struct job *j)
{
	return j->began_us ? (now_us() - j->began_us) / 1000000 : 0;
}

void job_reset_used(struct job *j)
{
	j->rec.used = j->used_before = j->began_us = 0;
}

int64_t job_used(const struct job *j)
{
	return j->began_us ? j->used_before + job_ran(j) : j->rec.used;
}

void job_set_intent(struct job *j, enum intent intent)
{
	job_set_ended(j, intent, -1);
}

void job_set_ended(struct job *j, enum intent intent, int status)
{
	struct err err;

	j->rec.intent = intent;
	j->rec.status = status;
	if (j->store_ok && job_save(j, &err) < 0)
		log_error("cannot record that the job is %s: %s", intent_name(intent), err.text);
}

void job_log(struct job *j, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_info("%s", text);
	if (j->store_ok)
		store_log(&j->store, j->task.uid, "%s", text);
}

static int job_read_regular(const char *path, size_t max, char **text, ssize_t *len, struct err *err)
{
	struct stat st;
	/* The script lies in a directory of root but belongs to the user, who may have put a FIFO, a device or a link
	 * in its place. */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot read %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s is not a regular file", path);
	*len = read_all(fd, max, text);
	if (*len < 0)
		return err_sys(err, errno, "cannot read %s", path);
	return 0;
}

static int job_copy_in(struct job *j, const char *path, const char *name, size_t max, mode_t mode, char *digest,
		       struct err *err)
{
	cleanup_free char *text = NULL;
	ssize_t len;

	if (job_read_regular(path, max, &text, &len, err) < 0)
		return -1;
	if (digest) {
		struct sha256_ctx ctx;
		uint8_t bin[SHA256_DIGEST_SIZE];

		sha256_init(&ctx);
		sha256_update(&ctx, (size_t)len, (const uint8_t *)text);
		sha256_digest(&ctx, sizeof(bin), bin);
		for (size_t i = 0; i < sizeof(bin); i++)
			snprintf(digest + 2 * i, 3, "%02x", bin[i]);
	}
	if (write_file_atomic(j->store.dirfd, name, mode, 0, text, (size_t)len) < 0)
		return err_sys(err, errno, "cannot write %s/%s", j->store.path, name);
	return 0;
}

/* A restore needs script and leader as they were: Slurm deletes its copy of the script with the job, and an upgrade
 * replaces the leader. */
int job_save_copies(struct job *j, struct err *err)
{
	char leader[PATH_MAX];

	if (j->copies_saved)
		return 0;
	snprintf(leader, sizeof(leader), "%.4000s/fsched-leader", j->libexec);
	if (job_copy_in(j, j->task.script, "script", SCRIPT_MAX, 0600, j->rec.script_sha256, err) < 0 ||
	    job_copy_in(j, leader, "leader", LEADER_MAX, 0755, NULL, err) < 0 || job_save(j, err) < 0)
		return -1;
	j->copies_saved = true;
	return 0;
}

/* Removes from the record the epochs that CRIU_MaxEpochs does not keep. job_prune() then removes them from the disk. */
static void job_forget_old(struct job_record *r, unsigned keep)
{
	unsigned numbers[STORE_KEPT_MAX], gone[STORE_KEPT_MAX], n_gone, kept = 0;

	for (unsigned i = 0; i < r->n_epochs; i++)
		numbers[i] = r->epochs[i].number;
	n_gone = retention_select(numbers, r->n_epochs, keep, r->epochs[r->n_epochs - 1].number, gone);
	for (unsigned i = 0; i < r->n_epochs; i++) {
		bool goes = false;

		for (unsigned j = 0; j < n_gone; j++)
			goes |= gone[j] == r->epochs[i].number;
		if (!goes)
			r->epochs[kept++] = r->epochs[i];
	}
	r->n_epochs = kept;
}

void job_add_epoch(struct job *j, const struct epoch_summary *e)
{
	struct job_record *r = &j->rec;

	if (r->n_epochs && r->epochs[r->n_epochs - 1].number == e->number)
		r->n_epochs--;
	else if (r->n_epochs == STORE_KEPT_MAX)
		memmove(&r->epochs[0], &r->epochs[1], --r->n_epochs * sizeof(r->epochs[0]));
	r->epochs[r->n_epochs++] = *e;
	store_forget_removed(&j->store, r);
	if (r->n_epochs)
		job_forget_old(r, j->conf.max_epochs);
}

void job_quota_end(const struct job *j)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", j->task.job_id);
	usage_end(j->conf.dir, j->task.uid, name);
}

/* An epoch that is not in the record is old, unless it is newer than all epochs in the record: it may have been
 * completed while the child waited for the file system, since the child has the record as it was when it was forked. */
static bool job_epoch_is_old(const struct job *j, unsigned number)
{
	const unsigned n = j->rec.n_epochs;

	return !job_record_has(j, number) && n && number < j->rec.epochs[n - 1].number;
}

/* The child of job_prune(). It writes one line for each:
 *
 *   "kept EPOCH BYTES"    a removed epoch of which newer epochs still need BYTES
 *   "shared EPOCH BYTES"  an epoch that stays
 *   anything else         the text of an error
 */
static int job_prune_main(void *arg, int out)
{
	const struct job *j = arg;
	unsigned disk[STORE_KEPT_MAX];
	int n = store_list_epochs(&j->store, disk, STORE_KEPT_MAX), bad = 0;
	struct err err;

	for (int i = 0; i < n; i++) {
		uint64_t shared = job_epoch_is_old(j, disk[i]) ? store_epoch_shared(&j->store, disk[i]) : 0;

		if (!job_epoch_is_old(j, disk[i]))
			continue;
		if (store_remove_epoch(&j->store, disk[i], &err) < 0)
			bad = dprintf(out, "%s\n", err.text) != 0;
		else if (shared && dprintf(out, "kept %u %llu\n", disk[i], (unsigned long long)shared) < 0)
			bad = 1;
	}
	for (int i = 0; i < n; i++)
		if (job_record_has(j, disk[i]) && dprintf(out, "shared %u %llu\n", disk[i],
							  (unsigned long long)store_epoch_shared(&j->store, disk[i])) < 0)
			bad = 1;
	return bad;
}

static void job_on_prune_line(void *arg, char *line)
{
	struct job *j = arg;
	unsigned long long bytes;
	unsigned epoch;
	char size[16];

	if (sscanf(line, "kept %u %llu", &epoch, &bytes) == 2) {
		job_log(j, "epoch %u removed; %s of it are kept, newer epochs refer to them", epoch,
			format_size(bytes, size, sizeof(size)));
	} else if (sscanf(line, "shared %u %llu", &epoch, &bytes) == 2) {
		for (unsigned i = 0; i < j->rec.n_epochs; i++)
			if (j->rec.epochs[i].number == epoch && j->rec.epochs[i].shared != bytes) {
				j->rec.epochs[i].shared = bytes;
				j->shared_changed = true;
			}
	} else {
		log_warn("an old epoch cannot be removed: %s", line);
	}
}

static void job_on_prune_end(void *arg, int status)
{
	struct job *j = arg;
	struct err err;

	if (j->shared_changed && j->store_ok && job_save(j, &err) < 0)
		log_warn("%s", err.text);
	j->shared_changed = false;
}

/* In a child, because it takes long to remove gigabytes on some file systems. */
void job_prune(struct job *j)
{
	struct proc_spec s = { .main = job_prune_main,
			       .main_arg = j,
			       .keep_all = true,
			       .keep_fd = -1,
			       .on_line = job_on_prune_line,
			       .on_end = job_on_prune_end,
			       .arg = j };
	struct err err;

	if (!j->store_ok || proc_running(&j->prune))
		return;
	if (proc_start(j->loop, &j->prune, &s, &err) < 0)
		log_warn("old epochs are not removed now: %s", err.text);
}

bool job_has_epoch(const struct job *j)
{
	return record_newest_epoch(&j->rec) != NULL;
}

/* Only epochs of the present run can be restored, so only these are offered. `fsched list` shows all. */
void job_describe_epochs(const struct job *j, struct status *s)
{
	const struct job_record *r = &j->rec;
	struct epoch_summary last = { 0 };
	unsigned mine = 0;
	size_t n = 0;

	for (unsigned i = 0; i < r->n_epochs; i++)
		mine += r->epochs[i].run == r->run;
	s->kept[0] = '\0';
	for (unsigned i = 0; i < r->n_epochs; i++) {
		if (r->epochs[i].run != r->run)
			continue;
		last = r->epochs[i];
		if (mine-- <= KEPT_SHOWN)
			n += (size_t)snprintf(s->kept + n, sizeof(s->kept) - n, "%s%u", n ? "," : "", last.number);
	}
	s->skipped = r->skipped;
	s->used = r->used;
	s->epoch = last.number;
	s->epoch_time = last.time;
	s->bytes = last.bytes;
	s->frozen_us = last.frozen_us;
	s->total_us = last.total_us;
	snprintf(s->memory, sizeof(s->memory), "%s", last.memory);
}

static bool job_flag(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* The node still had the processes of the last start when Slurm launched the next one there (a node that was set down
 * and resumed at once). Slurm then holds the job: "launch failed requeued held". */
static bool job_launch_failed(const json_t *answer)
{
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	return reason && (!strncmp(reason, "launch failed", 13) || !strncmp(reason, "launch_failed", 13));
}

static bool job_resumes(const struct job *j)
{
	return *j->task.on_requeue ? strcmp(j->task.on_requeue, "resume") == 0
				   : j->conf.on_requeue == CONF_REQUEUE_RESUME;
}

struct end_input job_end_input(const struct job *j, bool ok, const json_t *answer)
{
	const json_int_t starts = json_integer_value(json_object_get(answer, "restart_count"));

	return (struct end_input){
		.known = ok,
		.pending = job_flag(answer, "pending"),
		.completing = job_flag(answer, "completing"),
		.running = job_flag(answer, "running"),
		.finished = job_flag(answer, "finished"),
		.preempted = json_integer_value(json_object_get(answer, "preempt_time")) > 0,
		.by_itself = job_flag(answer, "start_over"),
		.resumes = job_resumes(j),
		.newer = starts > (json_int_t)j->task.restart_count,
		.beyond = starts > (json_int_t)j->task.restart_count + 1 || job_launch_failed(answer),
	};
}
