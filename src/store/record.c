/* job.json: the identity and the state of a job with checkpoints. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/interval.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "base/json.h"
#include "base/uuid_text.h"
#include "store/store_internal.h"

/* clang-format off */
static const char *const intent_names[] = {
	[INTENT_RUNNING]  = "running",
	[INTENT_VACATING] = "vacating",
	[INTENT_VACATED]  = "vacated",
	[INTENT_REQUEUED] = "requeued",
	[INTENT_DONE]     = "done",
};
/* clang-format on */

const char *intent_name(enum intent i)
{
	return (size_t)i < ARRAY_SIZE(intent_names) ? intent_names[i] : "unknown";
}

int intent_parse(const char *name, enum intent *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(intent_names); i++) {
		if (strcmp(name, intent_names[i]) == 0) {
			*out = (enum intent)i;
			return 0;
		}
	}
	return -1;
}

static uint64_t epoch_shared_bytes(const struct epoch_summary *e)
{
	return e->shared < e->bytes ? e->shared : e->bytes;
}

uint64_t record_bytes(const struct job_record *r)
{
	uint64_t own = 0, shared = 0;

	for (unsigned i = 0; i < r->n_epochs; i++) {
		const uint64_t part = epoch_shared_bytes(&r->epochs[i]);

		own += r->epochs[i].bytes - part;
		shared = part > shared ? part : shared;
	}
	return own + shared;
}

uint64_t record_prunable_bytes(const struct job_record *r)
{
	uint64_t own = 0;

	for (unsigned i = 0; i + 1 < r->n_epochs; i++)
		own += r->epochs[i].bytes - epoch_shared_bytes(&r->epochs[i]);
	return own;
}

int64_t store_record_age(const char *base, const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s/%sjob.json", base, name, geteuid() == 0 ? "" : OWNER_COPIES "/");
	struct stat st;

	if (lstat(path, &st))
		return -1;
	return time(NULL) > st.st_mtime ? time(NULL) - st.st_mtime : 0;
}

const struct epoch_summary *record_find_epoch(const struct job_record *r, unsigned epoch)
{
	for (unsigned i = 0; i < r->n_epochs; i++)
		if (r->epochs[i].number == epoch)
			return &r->epochs[i];
	return NULL;
}

const struct epoch_summary *record_newest_epoch(const struct job_record *r)
{
	for (unsigned i = r->n_epochs; i > 0; i--)
		if (r->epochs[i - 1].run == r->run)
			return &r->epochs[i - 1];
	return NULL;
}

void record_forget_epoch(struct job_record *r, unsigned epoch)
{
	const struct epoch_summary *e = record_find_epoch(r, epoch);
	size_t at;

	if (!e)
		return;
	at = (size_t)(e - r->epochs);
	memmove(&r->epochs[at], &r->epochs[at + 1], (r->n_epochs - at - 1) * sizeof(r->epochs[0]));
	r->n_epochs--;
}

unsigned record_forget_oldest(struct job_record *r, uint64_t bytes)
{
	const uint64_t before = record_bytes(r);
	unsigned last = 0;

	while (r->n_epochs > 1 && before - record_bytes(r) < bytes) {
		last = r->epochs[0].number;
		record_forget_epoch(r, last);
	}
	return last;
}

/* ---- reading ----------------------------------------------------------- */

/* Copies a text that may be NULL. A text that is too long is cut between two characters, because a record with a part
 * of a character could not be written. */
static void record_copy_text(char *buf, size_t len, const char *text)
{
	memset(buf, 0, len);
	printable(text ? text : "", buf, len);
}

static int parse_summary(const json_t *o, struct epoch_summary *e, struct err *err)
{
	const char *reason = json_string_value(json_object_get(o, "reason")),
		   *memory = json_string_value(json_object_get(o, "memory")),
		   *closed = json_string_value(json_object_get(o, "closed"));
	json_int_t shared = json_integer_value(json_object_get(o, "shared")); /* not in records of older versions */
	int64_t bytes;

	if (json_get_uint(o, "number", &e->number, err) < 0 || json_get_int(o, "time", 0, INT64_MAX, &e->time, err) < 0 ||
	    json_get_int(o, "bytes", 0, INT64_MAX, &bytes, err) < 0 ||
	    json_get_int(o, "frozen_us", 0, INT64_MAX, &e->frozen_us, err) < 0 ||
	    json_get_int(o, "total_us", 0, INT64_MAX, &e->total_us, err) < 0 || json_get_uint(o, "run", &e->run, err) < 0)
		return -1;
	e->bytes = (uint64_t)bytes;
	e->shared = shared > 0 ? (uint64_t)shared : 0;
	record_copy_text(e->reason, sizeof(e->reason), reason);
	record_copy_text(e->memory, sizeof(e->memory), memory);
	record_copy_text(e->closed, sizeof(e->closed), closed);
	return 0;
}

static int parse_epochs(const json_t *root, struct job_record *r, struct err *err)
{
	const json_t *list = json_get_list(root, "epochs", STORE_KEPT_MAX, err), *o;
	size_t i;

	if (!list)
		return -1;
	json_array_foreach(list, i, o) {
		if (parse_summary(o, &r->epochs[i], err) < 0)
			return err_wrap(err, "epoch entry %zu", i);
		if (i > 0 && r->epochs[i].number <= r->epochs[i - 1].number)
			return err_set(err, EBADMSG, "epochs are not in ascending order");
	}
	r->n_epochs = (unsigned)json_array_size(list);
	return 0;
}

static int parse_identity(const json_t *root, struct job_record *r, struct err *err)
{
	unsigned uid, gid;

	if (json_get_uint(root, "job_id", &r->job_id, err) < 0 ||
	    json_get_text(root, "uuid", r->uuid, sizeof(r->uuid), err) < 0 ||
	    json_get_text(root, "cluster", r->cluster, sizeof(r->cluster), err) < 0 ||
	    json_get_text(root, "user", r->user, sizeof(r->user), err) < 0 ||
	    json_get_uint(root, "uid", &uid, err) < 0 || json_get_uint(root, "gid", &gid, err) < 0 ||
	    json_get_text(root, "script_sha256", r->script_sha256, sizeof(r->script_sha256), err) < 0)
		return -1;
	if (!uuid_text_valid(r->uuid))
		return err_set(err, EBADMSG, "member \"uuid\" is no UUID");
	r->uid = uid;
	r->gid = gid;
	return 0;
}

static int record_parse_state(const json_t *root, struct job_record *r, struct err *err)
{
	/* not in records of older versions */
	const json_t *status = json_object_get(root, "status"), *used = json_object_get(root, "used");
	char intent[16];

	if (json_get_int(root, "interval", INTERVAL_AUTO, INT64_MAX, &r->interval, err) < 0 ||
	    json_get_text(root, "intent", intent, sizeof(intent), err) < 0 ||
	    json_get_uint(root, "run", &r->run, err) < 0 ||
	    json_get_uint(root, "restart_count", &r->restart_count, err) < 0 ||
	    json_get_text(root, "host", r->host, sizeof(r->host), err) < 0 ||
	    json_get_uint(root, "skipped", &r->skipped, err) < 0)
		return -1;
	if (intent_parse(intent, &r->intent) < 0)
		return err_set(err, EBADMSG, "member \"intent\" is not a known one");
	r->used = json_is_integer(used) && json_integer_value(used) > 0 ? json_integer_value(used) : 0;
	r->status = -1;
	if (r->intent == INTENT_DONE && json_is_integer(status) && json_integer_value(status) >= 0 &&
	    json_integer_value(status) <= 0xffff)
		r->status = (int)json_integer_value(status);
	return 0;
}

int record_parse(const json_t *root, struct job_record *r, struct err *err)
{
	if (parse_identity(root, r, err) < 0 || record_parse_state(root, r, err) < 0 || parse_epochs(root, r, err) < 0)
		return -1;
	return 0;
}

int record_load(int dirfd, const char *path, struct job_record *r, struct err *err)
{
	cleanup_json json_t *root = NULL;

	memset(r, 0, sizeof(*r));
	root = json_read_at(dirfd, "job.json", STORE_JSON_MAX, "job.json", err);
	if (!root)
		return err_wrap(err, "%s", path);
	if (record_parse(root, r, err) < 0) {
		memset(r, 0, sizeof(*r));
		return err_wrap(err, "%s/job.json is damaged", path);
	}
	return 0;
}

int store_load_record(const struct store *s, struct job_record *r, struct err *err)
{
	return record_load(s->dirfd, s->path, r, err);
}

/* ---- the result of a worker --------------------------------------------- */

/* 0 if the member is missing or negative. */
static int64_t record_result_number(const json_t *result, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(result, key));

	return n > 0 ? n : 0;
}

void epoch_summary_from_result(struct epoch_summary *e, const json_t *result)
{
	const int64_t time = record_result_number(result, "time");

	e->time = time ? time : e->time;
	e->bytes = (uint64_t)record_result_number(result, "bytes");
	e->frozen_us = record_result_number(result, "frozen_us");
	e->total_us = record_result_number(result, "total_us");
	record_copy_text(e->memory, sizeof(e->memory), json_string_value(json_object_get(result, "memory")));
	record_copy_text(e->closed, sizeof(e->closed), json_string_value(json_object_get(result, "closed")));
}

/* ---- writing ----------------------------------------------------------- */

static json_t *render_epochs(const struct job_record *r)
{
	cleanup_json json_t *list = json_array();

	for (unsigned i = 0; list && i < r->n_epochs; i++) {
		const struct epoch_summary *e = &r->epochs[i];

		json_t *o = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s}", "number", (json_int_t)e->number, "time",
				      (json_int_t)e->time, "bytes", (json_int_t)e->bytes, "frozen_us",
				      (json_int_t)e->frozen_us, "total_us", (json_int_t)e->total_us, "run",
				      (json_int_t)e->run, "shared", (json_int_t)e->shared, "reason", e->reason,
				      "memory", e->memory);

		if (o && e->closed[0])
			json_object_set_new(o, "closed", json_string(e->closed));
		if (json_array_append_new(list, o) < 0)
			return NULL;
	}
	return steal_ptr(&list);
}

char *record_render(const struct job_record *r)
{
	cleanup_json json_t *root = json_pack("{s:I,s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:I,s:I,s:s,s:s,s:I,s:I}", "job_id",
					      (json_int_t)r->job_id, "uuid", r->uuid, "cluster", r->cluster, "user",
					      r->user, "uid", (json_int_t)r->uid, "gid", (json_int_t)r->gid, "interval",
					      (json_int_t)r->interval, "intent", intent_name(r->intent), "run",
					      (json_int_t)r->run, "restart_count", (json_int_t)r->restart_count, "host",
					      r->host, "script_sha256", r->script_sha256, "skipped",
					      (json_int_t)r->skipped, "used", (json_int_t)r->used);

	if (!root || json_object_set_new(root, "epochs", render_epochs(r)) < 0)
		return NULL;
	if (r->intent == INTENT_DONE && r->status >= 0 && json_object_set_new(root, "status", json_integer(r->status)) < 0)
		return NULL;
	return json_dumps(root, JSON_INDENT(1));
}

int store_save_record(const struct store *s, const struct job_record *r, struct err *err)
{
	cleanup_free char *text = NULL;
	struct err why;

	if (!uuid_text_valid(r->uuid) || r->n_epochs > STORE_KEPT_MAX)
		return err_set(err, EINVAL,
			       "%s/job.json: refused to write a record without a valid uuid or with too many epochs",
			       s->path);
	text = record_render(r);
	if (!text)
		return err_set(err, EINVAL, "%s/job.json: a text of the record is not UTF-8", s->path);
	if (write_file_atomic(s->dirfd, "job.json", 0600, 0, text, strlen(text)) < 0)
		return err_sys(err, errno, "cannot write %s/job.json", s->path);
	/* A quota of the owner's may be in the way of his copy: no reason to do without a checkpoint. */
	if (owner_copy_write(s, r->uid, "job.json", text, &why) < 0)
		store_log(s, (uid_t)0, "%s: `fsched list' shows the job's owner what was there before", why.text);
	if (usage_record(s, r, &why) < 0)
		store_log(s, (uid_t)0, "%s: the quota of the job's owner counts what the job took before", why.text);
	return 0;
}

/* ---- another job's directory ------------------------------------------- */

/* Computes the suffix of the new name: the record's uuid, or "unknown-<time>". 1: the directory is this job's; 0: *tail
 * is set; -1: error. */
static int foreign_tail(int dirfd, const char *path, const char *uuid, char tail[64], struct err *err)
{
	cleanup_free struct job_record *r = xcalloc(1, sizeof(*r));
	struct store s = { .dirfd = dirfd, .epochsfd = -1 };
	struct err why = { 0 };

	snprintf(s.path, sizeof(s.path), "%s", path);
	if (store_load_record(&s, r, &why) == 0) {
		snprintf(tail, 64, "%s", r->uuid);
		return strcmp(r->uuid, uuid) == 0;
	}
	/* A disk or network error does not prove that the directory belongs to another job. */
	if (why.num != ENOENT && why.num != EBADMSG && why.num != EFBIG && why.num != EINVAL && why.num != ELOOP &&
	    why.num != EISDIR)
		return err_set(err, why.num, "%s", why.text);
	snprintf(tail, 64, "unknown-%lld", (long long)time(NULL));
	return 0;
}

static int rename_noreplace(int dirfd, const char *from, const char *to)
{
	struct stat st;

	if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* NFS has no RENAME_NOREPLACE. Only root writes here, and only one agent per job, so nobody makes `to` in
	 * between. */
	if (fstatat(dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(dirfd, from, dirfd, to);
}

int store_set_aside(const char *base, uint32_t job_id, const char *uuid, bool *moved, struct err *err)
{
	cleanup_close int basefd = -1, fd = -1;
	cleanup_free char *path = xasprintf("%s/%u", base, job_id);
	char name[16], tail[64], to[128];
	struct stat st;
	int ours;

	*moved = false;
	snprintf(name, sizeof(name), "%u", job_id);
	basefd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (basefd < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open checkpoint directory %s", base);
	if (store_check_dir(basefd, base, err) < 0)
		return -1;
	if (fstatat(basefd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", path);
	fd = store_open_dir(basefd, name, path, err);
	if (fd < 0)
		return -1;
	ours = foreign_tail(fd, path, uuid, tail, err);
	if (ours != 0)
		return ours < 0 ? -1 : 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(to, sizeof(to), i ? "%s.%s.%d" : "%s.%s", name, tail, i);
		if (rename_noreplace(basefd, name, to) == 0) {
			*moved = true;
			usage_move(basefd, name, to);
			return fsync(basefd) < 0 && errno != EINVAL ? err_sys(err, errno, "cannot sync %s", base) : 0;
		}
		if (errno != EEXIST && errno != ENOTEMPTY)
			break;
	}
	return err_sys(err, errno, "cannot set aside %s, the checkpoints of an earlier job %u, as %s", path, job_id, to);
}
