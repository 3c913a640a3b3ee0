/* Removes files that the job wrote for the first time after the epoch: for the restored job they must not exist.
 *
 * Such a file is named in the journal but is not among the epoch's records. It is removed only if its birth time is
 * later than the freeze of the epoch, so that a file that already existed and was first written later stays. On a file
 * system without birth times it is removed only if the epoch recorded it as absent. The work is done with the rights of
 * the job's user, in a child (file_batch.c). */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "files/names.h"

#define WANTED (STATX_TYPE | STATX_UID | STATX_MTIME | STATX_BTIME)

/* ---- in the child ------------------------------------------------------ */

/* The step's context. */
struct undo {
	struct file_batch batch; /* first: the step gets a pointer to it */
	int64_t frozen_at;       /* Unix us of the epoch's freeze */
};

static bool undo_is_since(const struct undo *u, const struct statx_timestamp *t)
{
	return timestamp_us(t->tv_sec, t->tv_nsec) >= u->frozen_at;
}

static bool undo_is_born_since(const struct undo *u, const struct statx *st)
{
	return name_born_since(st, u->frozen_at);
}

/* Removes the directories above the file that were made after the freeze and are empty now. */
static void undo_remove_directories(const struct undo *u, const char *path)
{
	char dir[PATH_MAX];
	struct statx st;
	const char *name;
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	while ((slash = strrchr(dir, '/')) && slash != dir) {
		*slash = '\0';
		cleanup_close int above = files_open_dir(-1, dir, u->batch.cred->uid, &name);

		if (above < 0 || statx(above, name, AT_SYMLINK_NOFOLLOW, WANTED, &st) < 0 || !S_ISDIR(st.stx_mode) ||
		    st.stx_uid != u->batch.cred->uid || !undo_is_born_since(u, &st) ||
		    unlinkat(above, name, AT_REMOVEDIR) < 0)
			return;
	}
}

/* Removes the file if it is new. A file that stays but was changed after the freeze is counted. */
static int undo_file(const struct file_batch *b, const struct file_record *r, int copy)
{
	const struct undo *u = (const struct undo *)b;
	const char *name;
	cleanup_close int dir = files_open_dir(-1, r->path, b->cred->uid, &name);
	struct statx st;
	bool is_new;

	(void)copy;
	if (dir < 0 && errno == ELOOP)
		file_batch_warn(b, r->path, "may have been written after the checkpoint and is not looked at: %s",
				open_path_error(errno));
	if (dir < 0 || statx(dir, name, AT_SYMLINK_NOFOLLOW, WANTED, &st) < 0 || !S_ISREG(st.stx_mode))
		return 0;
	is_new = st.stx_mask & STATX_BTIME ? undo_is_born_since(u, &st) : r->class == FILE_ABSENT;
	if (!is_new || st.stx_uid != b->cred->uid) {
		if (is_new || undo_is_since(u, &st.stx_mtime))
			file_batch_count(b, BATCH_CHANGED, r->path);
		return 0;
	}
	if (unlinkat(dir, name, 0) < 0) {
		file_batch_warn(b, r->path, "was first written after the checkpoint and cannot be removed: %s",
				strerror(errno));
		return 0;
	}
	file_batch_count(b, BATCH_REMOVED, r->path);
	undo_remove_directories(u, r->path);
	return 0;
}

/* ---- in the parent ----------------------------------------------------- */

static void undo_report(const struct batch_outcome *o, unsigned epoch)
{
	const bool one = o->changed.n == 1;

	if (o->removed.n)
		add_warning(o->warnings, "removed %u %s that %s first written after epoch %u, first %s", o->removed.n,
			    o->removed.n == 1 ? "file" : "files", o->removed.n == 1 ? "was" : "were", epoch,
			    o->removed.first);
	if (o->changed.n)
		add_warning(o->warnings,
			    "%u %s changed after epoch %u and not saved with it, because the job had not written %s before: "
			    "%s left as %s, first %s",
			    o->changed.n, one ? "file was" : "files were", epoch, one ? "it" : "them",
			    one ? "it is" : "they are", one ? "it is" : "they are", o->changed.first);
	if (o->errors)
		add_warning(o->warnings, "%s", o->first);
}

/* Fills *r for a path of the journal. False if the epoch has a record of the file: then files_put_back() has restored
 * it. */
static bool undo_select_path(const struct record_index *known, const char *path, struct file_record *r)
{
	const json_t *o = record_index_find(known, path);

	memset(r, 0, sizeof(*r));
	r->class = FILE_CLOSED;
	if (o && (file_record_parse(o, r, NULL) < 0 || r->class != FILE_ABSENT))
		return false;
	snprintf(r->path, sizeof(r->path), "%s", path);
	return true;
}

static int undo_all(struct undo *u, const struct journal *j, const struct record_index *known, struct batch_outcome *o,
		    struct err *err)
{
	cleanup_free struct file_record *batch = xcalloc(FILE_BATCH_MAX, sizeof(*batch));

	for (size_t i = 0; i < j->n;) {
		int n = 0;

		for (; i < j->n && n < FILE_BATCH_MAX; i++)
			if (undo_select_path(known, j->paths[i], &batch[n]))
				n++;
		if (n && file_batch_run(&u->batch, batch, n, -1, o, err) < 0)
			return -1;
	}
	return 0;
}

int files_undo_written(int jobfd, const struct files_undo *f, json_t *warnings, struct err *err)
{
	struct undo u = { .batch = { .step = undo_file, .cred = f->cred }, .frozen_at = f->frozen_at };
	struct batch_outcome o = { .warnings = warnings };
	struct record_index known;
	struct journal j = { 0 };
	int rc;

	if (journal_read(&j, jobfd, &(struct packed){ f->private_tmp, f->scratch }, err) < 0)
		return -1;
	record_index_make(&known, f->records);
	rc = undo_all(&u, &j, &known, &o, err);
	undo_report(&o, f->epoch);
	record_index_free(&known);
	journal_free(&j);
	return rc;
}
