/* Files that the job first wrote after the epoch: to the restored job they must not be there.
 *
 * What is known of such a file is that it is in the journal now and was not among the epoch's files. It is removed only
 * if it was born after the epoch's freeze, so that a file that existed all along and was first written later stays;
 * where the file system tells no time of birth, only if the epoch says that it was not there. All with the job's user's
 * rights, in a child (files_restore.c).
 */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define WANTED (STATX_TYPE | STATX_UID | STATX_MTIME | STATX_BTIME)

static bool undo_is_since(const struct putter *p, const struct statx_timestamp *t)
{
	return t->tv_sec * INT64_C(1000000) + t->tv_nsec / 1000 >= p->since;
}

static bool undo_is_born_since(const struct putter *p, const struct statx *st)
{
	return (st->stx_mask & STATX_BTIME) && undo_is_since(p, &st->stx_btime);
}

/* Directories that came with the file, as far as nothing else is in them. */
static void undo_remove_directories(const struct putter *p, const char *path)
{
	char dir[PATH_MAX];
	struct statx st;
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	while ((slash = strrchr(dir, '/')) && slash != dir) {
		*slash = '\0';
		if (statx(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW, WANTED, &st) < 0 || !S_ISDIR(st.stx_mode) ||
		    st.stx_uid != p->cred->uid || !undo_is_born_since(p, &st) || rmdir(dir) < 0)
			return;
	}
}

void undo_file(const struct putter *p, const struct file_record *r)
{
	struct statx st;
	bool came;

	if (statx(AT_FDCWD, r->path, AT_SYMLINK_NOFOLLOW, WANTED, &st) < 0 || !S_ISREG(st.stx_mode))
		return;
	came = st.stx_mask & STATX_BTIME ? undo_is_born_since(p, &st) : r->class == FILE_ABSENT;
	if (!came || st.stx_uid != p->cred->uid) {
		if (came || undo_is_since(p, &st.stx_mtime))
			put_say(p, 'M', r->path, "%s", "");
		return;
	}
	if (unlink(r->path) < 0) {
		put_say(p, 'W', r->path, "was first written after the checkpoint and cannot be removed: %s",
			strerror(errno));
		return;
	}
	put_say(p, 'R', r->path, "%s", "");
	undo_remove_directories(p, r->path);
}

/* ---- in the parent ----------------------------------------------------- */

static void undo_report(const struct put_outcome *o, unsigned epoch)
{
	if (o->removed.n)
		add_warning(o->warnings, "removed %u %s that %s first written after epoch %u, first %s", o->removed.n,
			    o->removed.n == 1 ? "file" : "files", o->removed.n == 1 ? "was" : "were", epoch,
			    o->removed.first);
	if (o->changed.n)
		add_warning(o->warnings,
			    "%u %s changed after epoch %u and not saved with it, because the job had not written %s before: "
			    "%s left as %s, first %s",
			    o->changed.n, o->changed.n == 1 ? "file was" : "files were", epoch,
			    o->changed.n == 1 ? "it" : "them", o->changed.n == 1 ? "it is" : "they are",
			    o->changed.n == 1 ? "it is" : "they are", o->changed.first);
	if (o->errors)
		add_warning(o->warnings, "%s", o->first);
}

/* The epoch's own record decides what becomes of a file that has one. */
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

static int undo_all(struct putter *p, const struct journal *j, const struct record_index *known, struct put_outcome *o,
		    struct err *err)
{
	cleanup_free struct file_record *batch = xcalloc(PUT_BATCH, sizeof(*batch));

	for (size_t i = 0; i < j->n;) {
		int n = 0;

		for (; i < j->n && n < PUT_BATCH; i++)
			if (undo_select_path(known, j->paths[i], &batch[n]))
				n++;
		if (n && put_batch(p, batch, n, -1, o, err) < 0)
			return -1;
	}
	return 0;
}

int files_undo_written(int jobfd, const struct files_undo *u, json_t *warnings, struct err *err)
{
	struct putter p = { .mode = PUT_UNDO, .cred = u->cred, .out = -1, .since = u->frozen_at };
	struct put_outcome o = { .warnings = warnings };
	struct record_index known;
	struct journal j = { 0 };
	int rc;

	if (journal_read(&j, jobfd, u->private_tmp, err) < 0)
		return -1;
	record_index_make(&known, u->records);
	rc = undo_all(&p, &j, &known, &o, err);
	undo_report(&o, u->epoch);
	record_index_free(&known);
	journal_free(&j);
	return rc;
}
