/* The job's directory: opened when it can be, record, log and copies kept. */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <nettle/sha2.h>

#include "base/log.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "policy/retention.h"

#define SCRIPT_MAX (64 << 20) /* Slurm's own limit is 4 MB */
#define LEADER_MAX (64 << 20)
#define KEPT_SHOWN 11 /* of at most 10 digits each, in the status entry */

static void log_notice(const char *text, void *arg)
{
	log_info("%s", text);
}

int job_open_conf(struct agent *a, struct err *err)
{
	static const enum log_target targets[] = {
		/* the agent's stderr is the job's output file: nothing of ours belongs there */
		[CONF_LOG_SYSLOG] = LOG_TO_SYSLOG,
		[CONF_LOG_STDERR] = LOG_TO_SYSLOG,
		[CONF_LOG_FILE] = LOG_TO_FILE,
	};

	if (a->conf_ok)
		return 0;
	if (conf_load(&a->conf, a->task.config[0] ? a->task.config : NULL, err) < 0) {
		conf_defaults(&a->conf);
		return err_wrap(err, "the configuration of fsched cannot be used");
	}
	log_open(targets[a->conf.log], "fsched-agent", a->conf.log_path);
	conf_notices(&a->conf, log_notice, NULL);
	a->conf_ok = true;
	return 0;
}

static void new_record(struct agent *a)
{
	const struct task *t = &a->task;

	memset(&a->rec, 0, sizeof(a->rec));
	a->rec.job_id = t->job_id;
	a->rec.uid = t->uid;
	a->rec.gid = t->gid;
	a->rec.interval = t->interval;
	a->rec.intent = INTENT_RUNNING;
	a->rec.status = -1;
	memcpy(a->rec.uuid, t->uuid, sizeof(a->rec.uuid));
	memcpy(a->rec.cluster, t->cluster, sizeof(a->rec.cluster));
	memcpy(a->rec.user, t->user, sizeof(a->rec.user));
}

static int check_owner(const struct agent *a, struct err *err)
{
	if (a->rec.job_id == a->task.job_id && a->rec.uid == a->task.uid && a->rec.gid == a->task.gid)
		return 0;
	return err_set(err, EPERM, "%s/job.json names job %u, uid %u, gid %u, but this is job %u, uid %u, gid %u",
		       a->store.path, a->rec.job_id, (unsigned)a->rec.uid, (unsigned)a->rec.gid, a->task.job_id,
		       (unsigned)a->task.uid, (unsigned)a->task.gid);
}

/* Epochs on disk that the record does not know: an agent that died between the two. Older than the newest known one:
 * should have been removed. Newer: whole, but what is known of it lies in its manifest only, and nobody was told of it.
 */
static void forget_strays(struct agent *a)
{
	unsigned disk[STORE_KEPT_MAX];
	int n = store_list_epochs(&a->store, disk, STORE_KEPT_MAX);
	struct err err;

	for (int i = 0; i < n; i++) {
		unsigned j = 0;

		while (j < a->rec.n_epochs && a->rec.epochs[j].number != disk[i])
			j++;
		if (j < a->rec.n_epochs)
			continue;
		log_info("epoch %u is not in the job's record (the node failed while it was made or removed); removing it",
			 disk[i]);
		if (store_remove_epoch(&a->store, disk[i], &err) < 0)
			log_warn("%s", err.text);
	}
}

int job_open_dir(struct agent *a, struct err *err)
{
	bool moved = false;

	if (a->store.dirfd >= 0)
		return 0;
	if (job_open_conf(a, err) < 0)
		return -1;
	if (store_set_aside(a->conf.dir, a->task.job_id, a->task.uuid, &moved, err) < 0)
		return -1;
	if (moved)
		log_info("a directory of an earlier job with this id was set aside below %s", a->conf.dir);
	return store_open(&a->store, a->conf.dir, a->task.job_id, a->task.gid, true, err);
}

int job_open_store(struct agent *a, struct err *err)
{
	if (a->store_ok)
		return 0;
	if (job_open_dir(a, err) < 0)
		return -1;
	a->start.have_record = store_load_record(&a->store, &a->rec, err) == 0;
	if (!a->start.have_record) {
		if (err->num != ENOENT)
			goto fail;
		new_record(a);
	} else if (check_owner(a, err) < 0) {
		goto fail;
	}
	store_remove_partials(&a->store);
	forget_strays(a);
	a->store_ok = true;
	return 0;
fail:
	if (!proc_running(&a->lease.proc)) {
		store_close(&a->store);
		a->store.dirfd = a->store.epochsfd = -1;
	}
	return -1;
}

int job_save(struct agent *a, struct err *err)
{
	if (!a->store_ok)
		return err_set(err, 0, "the job's checkpoint directory is not open");
	return store_save_record(&a->store, &a->rec, err);
}

void job_set_intent(struct agent *a, enum intent intent)
{
	job_set_ended(a, intent, -1);
}

void job_set_ended(struct agent *a, enum intent intent, int status)
{
	struct err err;

	a->rec.intent = intent;
	a->rec.status = status;
	if (a->store_ok && job_save(a, &err) < 0)
		log_error("cannot record that the job is %s: %s", intent_name(intent), err.text);
}

void job_log(struct agent *a, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_info("%s", text);
	if (a->store_ok)
		store_log(&a->store, a->task.gid, "%s", text);
}

static int read_regular(const char *path, size_t max, char **text, ssize_t *len, struct err *err)
{
	struct stat st;
	/* the script lies in a directory of root's, but is the user's: no fifo, no device, no link */
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

static int copy_in(struct agent *a, const char *path, const char *name, size_t max, mode_t mode, char *digest,
		   struct err *err)
{
	cleanup_free char *text = NULL;
	ssize_t len;

	if (read_regular(path, max, &text, &len, err) < 0)
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
	if (write_file_atomic(a->store.dirfd, name, mode, 0, text, (size_t)len) < 0)
		return err_sys(err, errno, "cannot write %s/%s", a->store.path, name);
	return 0;
}

/* Slurm deletes its copy of the script with the job, and an upgrade replaces the leader: a restore needs both as they
 * were. */
int job_save_copies(struct agent *a, struct err *err)
{
	char leader[PATH_MAX];

	if (a->start.copies)
		return 0;
	snprintf(leader, sizeof(leader), "%.4000s/fsched-leader", a->libexec);
	if (copy_in(a, a->task.script, "script", SCRIPT_MAX, 0600, a->rec.script_sha256, err) < 0 ||
	    copy_in(a, leader, "leader", LEADER_MAX, 0755, NULL, err) < 0 || job_save(a, err) < 0)
		return -1;
	a->start.copies = true;
	return 0;
}

/* Takes the epochs out of the record that CRIU_MaxEpochs does not keep; job_prune() removes from disk what is not in
 * the record. */
static void forget_old(struct job_record *r, unsigned keep)
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

void job_add_epoch(struct agent *a, const struct epoch_summary *e)
{
	struct job_record *r = &a->rec;

	if (r->n_epochs && r->epochs[r->n_epochs - 1].number == e->number)
		r->n_epochs--;
	else if (r->n_epochs == STORE_KEPT_MAX)
		memmove(&r->epochs[0], &r->epochs[1], --r->n_epochs * sizeof(r->epochs[0]));
	r->epochs[r->n_epochs++] = *e;
	forget_old(r, a->conf.max_epochs);
}

static bool in_record(const struct agent *a, unsigned number)
{
	for (unsigned i = 0; i < a->rec.n_epochs; i++)
		if (a->rec.epochs[i].number == number)
			return true;
	return false;
}

/* Not in the record. One that is newer than all in it may have been completed while the child waited for the file
 * system: the record that the child knows is as old as the child. */
static bool is_old(const struct agent *a, unsigned number)
{
	const unsigned n = a->rec.n_epochs;

	return !in_record(a, number) && n && number < a->rec.epochs[n - 1].number;
}

/* Says "kept EPOCH BYTES" of what other epochs still need, "shared EPOCH BYTES" of those that are there, or what went
 * wrong. */
static int prune_main(void *arg, int out)
{
	const struct agent *a = arg;
	unsigned disk[STORE_KEPT_MAX];
	int n = store_list_epochs(&a->store, disk, STORE_KEPT_MAX), bad = 0;
	struct err err;

	for (int i = 0; i < n; i++) {
		uint64_t shared = is_old(a, disk[i]) ? store_epoch_shared(&a->store, disk[i]) : 0;

		if (!is_old(a, disk[i]))
			continue;
		if (store_remove_epoch(&a->store, disk[i], &err) < 0)
			bad = dprintf(out, "%s\n", err.text) != 0;
		else if (shared && dprintf(out, "kept %u %llu\n", disk[i], (unsigned long long)shared) < 0)
			bad = 1;
	}
	for (int i = 0; i < n; i++)
		if (in_record(a, disk[i]) && dprintf(out, "shared %u %llu\n", disk[i],
						     (unsigned long long)store_epoch_shared(&a->store, disk[i])) < 0)
			bad = 1;
	return bad;
}

static void on_prune_line(void *arg, char *line)
{
	struct agent *a = arg;
	unsigned long long bytes;
	unsigned epoch;
	char size[16];

	if (sscanf(line, "kept %u %llu", &epoch, &bytes) == 2) {
		job_log(a, "epoch %u removed; %s of it are kept, newer epochs refer to them", epoch,
			format_size(bytes, size, sizeof(size)));
	} else if (sscanf(line, "shared %u %llu", &epoch, &bytes) == 2) {
		for (unsigned i = 0; i < a->rec.n_epochs; i++)
			if (a->rec.epochs[i].number == epoch && a->rec.epochs[i].shared != bytes) {
				a->rec.epochs[i].shared = bytes;
				a->shared_changed = true;
			}
	} else {
		log_warn("an old epoch cannot be removed: %s", line);
	}
}

static void on_prune_end(void *arg, int status)
{
	struct agent *a = arg;
	struct err err;

	if (a->shared_changed && a->store_ok && job_save(a, &err) < 0)
		log_warn("%s", err.text);
	a->shared_changed = false;
	end_check(a);
}

/* In a child of its own: removing gigabytes takes long on some file systems. */
void job_prune(struct agent *a)
{
	struct proc_spec s = { .main = prune_main,
			       .main_arg = a,
			       .keep_all = true,
			       .keep_fd = -1,
			       .on_line = on_prune_line,
			       .on_end = on_prune_end,
			       .arg = a };
	struct err err;

	if (!a->store_ok || proc_running(&a->prune))
		return;
	if (proc_start(&a->loop, &a->prune, &s, &err) < 0)
		log_warn("old epochs are not removed now: %s", err.text);
}

/* Those of the present run: no other can be restored, so none may be offered. `fsched list` shows them all. */
void job_describe_epochs(const struct agent *a, struct status *s)
{
	const struct job_record *r = &a->rec;
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
	s->epoch = last.number;
	s->epoch_time = last.time;
	s->bytes = last.bytes;
	s->frozen_us = last.frozen_us;
	s->total_us = last.total_us;
	snprintf(s->memory, sizeof(s->memory), "%s", last.memory);
}
