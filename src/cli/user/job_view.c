#include "cli/user/job_view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/slurmconf.h"
#include "base/array.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "store/proofs.h"

static void load_disk(struct view *v, const struct conf *c)
{
	struct stat st;

	if (geteuid() != 0) {
		snprintf(v->store.path, sizeof(v->store.path), "%.4080s/%u", c->dir, v->id);
		v->on_disk = store_load_copy(c->dir, v->id, &v->rec, v->log, &v->disk_err) == 0;
		return;
	}
	v->sees_disk = stat(c->dir, &st) == 0 && S_ISDIR(st.st_mode);
	if (store_open(&v->store, c->dir, v->id, false, &v->disk_err) < 0)
		return;
	snprintf(v->log, sizeof(v->log), "%.4080s/checkpoint.log", v->store.path);
	v->on_disk = store_load_record(&v->store, &v->rec, &v->disk_err) == 0;
}

/* slurm_init() ends the process if there is no slurm.conf. */
static void load_slurm(struct view *v)
{
	struct err err;

	if (!slurmconf_path()) {
		err_set(&v->slurm_err, 0, "no slurm.conf was found");
		return;
	}
	rpc_init();
	v->in_slurm = rpc_job_load(v->id, &v->job, &v->slurm_err) == 0;
	if (!v->in_slurm)
		return;
	snprintf(v->label, sizeof(v->label), "%s", v->job.label);
	v->enabled = status_parse(v->job.admin_comment, &v->status, &err) == 0;
}

struct view *view_load(const struct conf *c, uint32_t id)
{
	struct view *v = xcalloc(1, sizeof(*v));

	v->id = id;
	v->store.dirfd = v->store.epochsfd = -1;
	snprintf(v->label, sizeof(v->label), "%u", id);
	load_disk(v, c);
	load_slurm(v);
	v->foreign = v->on_disk && v->in_slurm && (!v->enabled || strcmp(v->status.uuid, v->rec.uuid) != 0);
	return v;
}

void view_free(struct view *v)
{
	store_close(&v->store);
	rpc_job_free(&v->job);
	free(v);
}

struct id_list {
	uint32_t *v;
	size_t n, room;
};

static void view_append_id(struct id_list *ids, uint32_t id)
{
	array_reserve(ids->v, ids->n, ids->room);
	ids->v[ids->n++] = id;
}

static int resolve_task(const struct job_ref *ref, uint32_t *id, struct err *err)
{
	struct slurm_job job = { 0 };

	if (!slurmconf_path())
		return err_set(
			err, 0,
			"no slurm.conf was found to look up the array's tasks; give the job id of the task instead");
	rpc_init();
	if (rpc_job_load_task(ref->id, (uint32_t)ref->task, &job, err) < 0)
		return -1;
	*id = job.id;
	rpc_job_free(&job);
	return 0;
}

/* An id that Slurm does not know is taken as it is: epochs of that job may still exist. */
static void resolve_job(uint32_t id, struct id_list *ids)
{
	cleanup_free uint32_t *tasks = NULL;
	int found = 0;

	if (slurmconf_path()) {
		rpc_init();
		found = rpc_job_ids(id, &tasks, NULL);
	}
	if (found <= 0)
		view_append_id(ids, id);
	for (int i = 0; i < found; i++)
		view_append_id(ids, tasks[i]);
}

int view_resolve(const struct job_ref *refs, size_t n, uint32_t **ids, size_t *n_ids, struct err *err)
{
	struct id_list list = { 0 };
	uint32_t id;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		if (refs[i].task == IDS_NO_TASK) {
			resolve_job(refs[i].id, &list);
		} else {
			rc = resolve_task(&refs[i], &id, err);
			if (rc == 0)
				view_append_id(&list, id);
		}
	}
	*ids = list.v;
	*n_ids = list.n;
	return rc;
}

const char *view_time(int64_t t, char *buf, size_t len)
{
	return t ? format_time(t, buf, len) : "-";
}

static const char *view_duration(int64_t us, char *buf, size_t len)
{
	return us > 0 ? format_duration(us, buf, len) : "-";
}

bool view_load_manifest(const struct view *v, unsigned epoch, struct manifest *m, struct err *err)
{
	int fd;
	bool ok;

	if (v->store.epochsfd < 0) {
		err_set(err, 0, "only root may read it");
		return false;
	}
	fd = store_open_epoch(&v->store, epoch, err);
	if (fd < 0)
		return false;
	ok = manifest_load(fd, m, err) == 0;
	close(fd);
	return ok;
}

static void print_heading(void)
{
	printf("%5s  %-19s  %10s  %10s  %9s  %9s  %s\n", "EPOCH", "TIME", "SIZE", "SHARED", "FROZEN", "TOTAL", "REASON");
}

static void print_row(unsigned epoch, int64_t time, uint64_t bytes, uint64_t shared, int64_t frozen, int64_t total,
		      const char *reason)
{
	char when[32], size[32] = "-", part[32] = "-", f[32], t[32];

	if (bytes)
		format_size(bytes, size, sizeof(size));
	if (shared)
		format_size(shared, part, sizeof(part));
	printf("%5u  %-19s  %10s  %10s  %9s  %9s  %s\n", epoch, view_time(time, when, sizeof(when)), size, part,
	       view_duration(frozen, f, sizeof(f)), view_duration(total, t, sizeof(t)), reason);
}

static void print_disk_row(const struct view *v, const struct epoch_summary *e)
{
	struct manifest *m = xcalloc(1, sizeof(*m));
	char reason[64], shown[16];
	struct err err;
	bool readable = view_load_manifest(v, e->number, m, &err);

	if (!readable && v->store.epochsfd >= 0)
		snprintf(reason, sizeof(reason), "%s", err.num == ENOENT ? "not on disk" : "damaged");
	else
		snprintf(reason, sizeof(reason), "%s",
			 *e->reason ? printable(e->reason, shown, sizeof(shown))
			 : readable ? m->reason
				    : "-");
	if (e->run != v->rec.run)
		snprintf(reason + strlen(reason), sizeof(reason) - strlen(reason), " (before it was started over)");
	print_row(e->number, e->time, e->bytes, e->shared, e->frozen_us, e->total_us, reason);
	manifest_free(m);
	free(m);
}

/* The entry has size and times of the last epoch only. */
static void print_entry_rows(const struct status *s)
{
	for (const char *p = s->kept; *p;) {
		char *end;
		unsigned long n = strtoul(p, &end, 10);

		if (end == p)
			break;
		if (n == s->epoch)
			print_row(s->epoch, s->epoch_time, s->bytes, 0, s->frozen_us, s->total_us, "-");
		else
			print_row((unsigned)n, 0, 0, 0, 0, 0, "-");
		p = *end ? end + 1 : end;
	}
}

int view_print_epochs(const struct view *v, struct err *err)
{
	bool disk = v->on_disk && !v->foreign;

	if (!disk && !v->enabled) {
		if (v->in_slurm)
			return err_set(err, 0, "job %s is not checkpoint-enabled: it was submitted without --checkpoint",
				       v->label);
		return err_set(err, 0, "%s; %s", v->slurm_err.text, v->disk_err.text);
	}
	/* Slurm refuses updates of a job that has ended, so its entry may name epochs that have been pruned. */
	if (v->sees_disk && v->enabled && v->status.epoch &&
	    (disk ? v->rec.n_epochs == 0 : v->foreign || v->disk_err.num == ENOENT)) {
		printf("job %s: nothing on disk (pruned?); its Checkpoint entry still tells of epoch %u\n", v->label,
		       v->status.epoch);
		return 0;
	}
	if (disk ? v->rec.n_epochs == 0 : !v->status.epoch) {
		printf("job %s has no complete epoch%s yet\n", v->label,
		       v->in_slurm && v->job.restart_count ? " of its present run" : "");
		return 0;
	}
	print_heading();
	if (disk)
		for (unsigned i = 0; i < v->rec.n_epochs; i++)
			print_disk_row(v, &v->rec.epochs[i]);
	else
		print_entry_rows(&v->status);
	return 0;
}

static void print_memory(const struct manifest *m)
{
	char pages[32], zero[32], reused[32], stored[32], rest[32];
	double ratio = m->memory.stored ? (double)m->memory.raw / (double)m->memory.stored : 1;

	if (manifest_memory_small(m)) {
		printf("Memory:    %s (%s)\n", format_size(m->memory.criu, rest, sizeof(rest)), m->memory.why);
		return;
	}
	if (!m->memory.ours) {
		printf("Memory:    written by criu%s%s%s\n", m->memory.why[0] ? " (" : "", m->memory.why,
		       m->memory.why[0] ? ")" : "");
		return;
	}
	printf("Memory:    %s, of them %s zero and %s as in the epoch before; the rest stored in %s (1:%.2f); %s more in criu's images\n",
	       format_size(m->memory.pages, pages, sizeof(pages)), format_size(m->memory.zero, zero, sizeof(zero)),
	       format_size(m->memory.reused, reused, sizeof(reused)),
	       format_size(m->memory.stored, stored, sizeof(stored)), ratio,
	       format_size(m->memory.criu, rest, sizeof(rest)));
	printf("Read:      %s; %s were not as in the epoch before%s\n",
	       format_size(m->memory.scanned, pages, sizeof(pages)),
	       format_size(m->memory.pages - m->memory.reused, stored, sizeof(stored)),
	       m->memory.increment ? "" : ": a full epoch");
	printf("Method:    %s (%s)\n", m->memory.method, m->memory.why);
	format_size(m->memory.taken, rest, sizeof(rest));
	if (m->memory.rounds)
		printf("Pre-dump:  %u %s (%s); %s were taken in the freeze\n", m->memory.rounds,
		       m->memory.rounds == 1 ? "round" : "rounds", m->memory.tracking, rest);
	else if (manifest_tracked(m))
		printf("Tracked:   since the epoch before (%s); %s were taken in the freeze\n", m->memory.tracking, rest);
}

static const char *file_class(const json_t *file)
{
	const char *class = json_string_value(json_object_get(file, "class"));

	return class ? class : "";
}

/* The records of the manifest by class (files/files_json.c): "append" and "inplace" are of open files. */
static void print_file_counts(const json_t *files)
{
	size_t i, closed = 0, absent = 0;
	const json_t *f;

	json_array_foreach(files, i, f) {
		closed += strcmp(file_class(f), "closed") == 0;
		absent += strcmp(file_class(f), "absent") == 0;
	}
	printf("Files:     %zu open for writing, %zu written and closed before, %zu written and removed before\n",
	       json_array_size(files) - closed - absent, closed, absent);
}

static void print_closed(const char *text)
{
	char shown[1024];

	if (*text)
		printf("Closed after a restart: %s\n", printable(text, shown, sizeof(shown)));
}

static void print_proof(const struct view *v, const struct epoch_summary *e)
{
	cleanup_free struct proofs *all = proofs_new(v->store.path, geteuid() != 0);
	const struct proof *p = proofs_find(all, e->number, e->time);
	char text[PROOF_TEXT];

	printf("Proved:    %s\n", p ? proof_text(p, text) : "no: no restore has been tried");
}

static void print_manifest(const struct view *v, const struct manifest *m, const struct epoch_summary *e)
{
	char when[32], text[32], closed[1024];

	printf("Epoch:     %u\nTime:      %s\nReason:    %s\n", m->epoch, view_time(m->time, when, sizeof(when)),
	       m->reason);
	printf("Size:      %s\n", format_size(m->bytes, text, sizeof(text)));
	printf("Frozen:    %s\n", view_duration(e->frozen_us, text, sizeof(text)));
	print_memory(m);
	printf("Node:      %s, Linux %s, %s\n", m->node.hostname, m->node.kernel, m->node.machine);
	printf("Processor: %s\n", m->node.cpu_model);
	printf("Made by:   fsched %s, criu %s, glibc %s\n", m->node.fsched, m->node.criu, m->node.glibc);
	print_file_counts(m->files);
	print_proof(v, e);
	print_closed(manifest_closed_text(m, closed, sizeof(closed)));
}

/* File names come from the job and may contain any byte. */
static void print_files(const json_t *files)
{
	json_t *f;
	size_t i;

	json_array_foreach(files, i, f) {
		const char *path = json_string_value(json_object_get(f, "path"));
		const json_t *size = json_object_get(f, "size");
		char shown[4096], bytes[32];

		if (!path)
			continue;
		if (size)
			format_size((uint64_t)json_integer_value(size), bytes, sizeof(bytes));
		else
			snprintf(bytes, sizeof(bytes), "removed");
		printf("           %s (%s)\n", printable(path, shown, sizeof(shown)), bytes);
	}
}

const struct epoch_summary *view_find_epoch(const struct view *v, unsigned epoch)
{
	return v->on_disk && !v->foreign ? record_find_epoch(&v->rec, epoch) : NULL;
}

int view_print_epoch(const struct view *v, unsigned epoch, struct err *err)
{
	const struct epoch_summary *e = view_find_epoch(v, epoch);
	struct manifest *m;
	char shown[16];
	bool ok;

	if (!e)
		return err_set(err, 0,
			       "job %s has no epoch %u that can be read here: `fsched list %s' shows those it has",
			       v->label, epoch, v->label);
	m = xcalloc(1, sizeof(*m));
	ok = view_load_manifest(v, epoch, m, err);
	if (ok) {
		print_manifest(v, m, e);
		print_files(m->files);
	} else {
		print_heading();
		print_row(e->number, e->time, e->bytes, e->shared, e->frozen_us, e->total_us,
			  *e->reason ? printable(e->reason, shown, sizeof(shown)) : "-");
		print_closed(e->closed);
		print_proof(v, e);
		printf("More is in the epoch's manifest: %s\n", err->text);
	}
	manifest_free(m);
	free(m);
	return 0;
}
