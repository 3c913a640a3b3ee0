/* Saves files that the job has written and closed, in three steps: while the job runs (prepare), while it is frozen
 * (freeze), and when it may run again (finish).
 *
 * The user can make the paths lead anywhere, also to files that only root may read. So each path is opened with the
 * user's rights: a file that he cannot read himself does not get into a copy that a restore would give him. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/user_rights.h"
#include "base/util.h"

#define WHOLE_MAX  (1 << 20) /* bytes up to which a file is copied even if it was not seen to be rewritten */
#define ADDED_MAX  20000     /* paths that are not in the journal */
#define BATCH      64        /* files that are open at the same time */
#define FIRST_COPY 200000    /* copies are numbered from here, above the numbers of files_record() */
#define SETTLED_US 100000    /* a change that is older than this has another time stamp than the next change */

enum entry_state { NEVER_SEEN, NOT_THERE, LEFT_OUT, SEEN };

struct written_entry {
	enum entry_state state;
	bool settled; /* the file's times will tell whether it changes from now on */
	int error;    /* errno of examining or reading it, 0 = no error */
	uint64_t dev, ino;
	int64_t size;
	mode_t mode;
	gid_t gid;
	bool acl;
	struct timespec mtime, ctime;
	char tail[SHA256_HEX], digest[SHA256_HEX];
	unsigned copy;  /* number of the copy, 0 = none */
	int64_t copied; /* bytes in the copy */
	uint64_t cost;  /* bytes that the copy takes from the limit */
};

struct files_write_list {
	struct files_opts o;
	int jobfd, rootfd, filesfd;
	bool frozen;
	struct journal journal;
	struct written_entry *v; /* one for each path of the journal */
	size_t n;
	int previous_filesfd; /* -1 = none */
	struct record_index previous;
	uint64_t left; /* bytes left of the limit */
	unsigned n_copies;
	char **added; /* by files_write_list_add() since the last step; owned */
	size_t n_added, added_room, n_added_ever;
	void *known; /* tsearch tree of the first n_known paths of the journal */
	size_t n_known;
};

/* What was found at the path of one file of a batch. */
struct observation {
	int fd;    /* open for reading, or -1 */
	int error; /* errno of finding or opening it */
	bool found, same;
	struct stat st;
};

/* ---- examining ----------------------------------------------------------- */

static bool write_list_is_unchanged(const struct written_entry *e, const struct stat *st)
{
	return e->state == SEEN && e->settled && e->dev == st->st_dev && e->ino == st->st_ino && e->size == st->st_size &&
	       same_timestamp(&e->mtime, &st->st_mtim) && same_timestamp(&e->ctime, &st->st_ctim);
}

/* O_NONBLOCK: otherwise a lease held by a task of the job would block this open(). */
static int write_list_open_file(int pathfd)
{
	const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	char link[40];
	int fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	fd = open(link, flags | O_NOATIME);
	return fd < 0 && errno == EPERM ? open(link, flags) : fd;
}

static void write_list_observe(const struct files_write_list *w, const char *path, const struct written_entry *e,
			       struct observation *l)
{
	cleanup_close int pathfd = open_path_of(w->rootfd, path, w->o.cred.uid);

	*l = (struct observation){ .fd = -1 };
	if (pathfd < 0 || fstat(pathfd, &l->st) < 0) {
		l->error = errno;
		return;
	}
	l->found = true;
	l->same = write_list_is_unchanged(e, &l->st);
	if (l->same || !S_ISREG(l->st.st_mode))
		return;
	l->fd = write_list_open_file(pathfd);
	l->error = l->fd < 0 ? errno : 0;
}

/* ---- copies ------------------------------------------------------------ */

static void write_list_copy_name(unsigned number, char name[24])
{
	snprintf(name, 24, "%06u.data", number);
}

static void write_list_drop_copy(struct files_write_list *w, struct written_entry *e)
{
	char name[24];

	if (!e->copy)
		return;
	write_list_copy_name(e->copy, name);
	unlinkat(w->filesfd, name, 0);
	w->left += e->cost;
	e->copy = 0;
	e->digest[0] = '\0';
}

/* Saves the first size bytes. 1 = saved, 0 = not saved, -1 = the checkpoint cannot be written. *copyfd: descriptor of
 * the copy, which the caller closes. */
static int write_list_save_bytes(struct files_write_list *w, struct written_entry *e, int in, uint64_t size,
				 uint64_t cost, int *copyfd, struct err *err)
{
	bool to_out = false;
	char name[24];

	if (cost > w->left)
		return 0;
	write_list_copy_name(FIRST_COPY + ++w->n_copies, name);
	*copyfd = openat(w->filesfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (*copyfd < 0)
		return err_sys(err, errno, "cannot make files/%s in the checkpoint", name);
	if (copy_sparse(in, *copyfd, size, cost, &to_out) < 0) {
		int saved = errno;

		unlinkat(w->filesfd, name, 0);
		return to_out ? err_sys(err, saved, "cannot write files/%s in the checkpoint", name) : 0;
	}
	e->copy = FIRST_COPY + w->n_copies;
	e->copied = (int64_t)size;
	e->cost = cost;
	w->left -= cost;
	return 1;
}

static int write_list_save_whole(struct files_write_list *w, struct written_entry *e, const struct observation *l,
				 struct err *err)
{
	cleanup_close int copyfd = -1;
	int rc = write_list_save_bytes(w, e, l->fd, (uint64_t)e->size, file_data_bytes(&l->st), &copyfd, err);

	if (rc > 0 && digest_range(copyfd, 0, (uint64_t)e->size, e->digest) < 0) {
		write_list_drop_copy(w, e);
		return 0;
	}
	return rc;
}

/* Links the copy of the previous epoch, if its digest is still right. */
static bool write_list_link_previous(struct files_write_list *w, struct written_entry *e,
				     const struct file_record *before, uint64_t cost)
{
	cleanup_close int fd = -1;
	char name[24], hex[SHA256_HEX];

	if (cost > w->left)
		return false;
	write_list_copy_name(FIRST_COPY + ++w->n_copies, name);
	if (linkat(w->previous_filesfd, before->saved, w->filesfd, name, 0) < 0)
		return false;
	fd = openat(w->filesfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || digest_range(fd, 0, (uint64_t)before->size, hex) < 0 || strcmp(hex, before->digest) != 0) {
		unlinkat(w->filesfd, name, 0);
		return false;
	}
	e->copy = FIRST_COPY + w->n_copies;
	e->copied = before->size;
	e->cost = cost;
	w->left -= cost;
	memcpy(e->tail, before->tail, sizeof(e->tail));
	memcpy(e->digest, before->digest, sizeof(e->digest));
	return true;
}

/* ---- one file -------------------------------------------------- */

/* Reads the record of the previous epoch; class FILE_ABSENT if there is none. */
static void write_list_read_previous(const struct files_write_list *w, const char *path, struct file_record *before)
{
	const json_t *o = record_index_find(&w->previous, path);

	if (!o || file_record_parse(o, before, NULL) < 0)
		before->class = FILE_ABSENT;
}

static bool write_list_matches_record(const struct written_entry *e, const struct file_record *r)
{
	return e->dev == r->dev && e->ino == r->ino && e->size == r->size && same_timestamp(&e->mtime, &r->mtime) &&
	       same_timestamp(&e->ctime, &r->ctime);
}

/* True if a large file has changed in another way than by growing. Until then it is handled as a log. */
static bool write_list_was_rewritten(const struct observation *l, const struct file_record *before)
{
	uint64_t edge = before->size < FILES_EDGE ? (uint64_t)before->size : FILES_EDGE;
	char hex[SHA256_HEX];

	if (before->class == FILE_CLOSED && before->size > WHOLE_MAX)
		return true;
	if (before->class != FILE_CLOSED && (before->class != FILE_APPEND || !*before->tail))
		return false;
	/* A file that does not grow, such as a database's log that is written round and round. */
	if (before->class == FILE_APPEND && l->st.st_size == before->size &&
	    !same_timestamp(&l->st.st_mtim, &before->mtime))
		return true;
	return l->st.st_size < before->size || digest_range(l->fd, (uint64_t)before->size - edge, edge, hex) < 0 ||
	       strcmp(hex, before->tail) != 0;
}

static void write_list_note_state(struct written_entry *e, const struct stat *st, int64_t now)
{
	*e = (struct written_entry){ .state = SEEN,
				     .dev = st->st_dev,
				     .ino = st->st_ino,
				     .size = st->st_size,
				     .mode = st->st_mode & 07777,
				     .gid = st->st_gid,
				     .mtime = st->st_mtim,
				     .ctime = st->st_ctim };
	e->settled = now - timestamp_us(st->st_ctim.tv_sec, st->st_ctim.tv_nsec) > SETTLED_US;
}

static int write_list_take_content(struct files_write_list *w, struct written_entry *e, const struct observation *l,
				   const struct file_record *before, struct err *err)
{
	uint64_t size = (uint64_t)e->size, edge = size < FILES_EDGE ? size : FILES_EDGE;
	cleanup_close int head = -1;
	int rc = 0;

	if (digest_range(l->fd, size - edge, edge, e->tail) < 0) {
		e->error = errno;
		e->settled = false;
		e->tail[0] = '\0';
		return 0;
	}
	if (size <= WHOLE_MAX || write_list_was_rewritten(l, before))
		rc = write_list_save_whole(w, e, l, err);
	if (rc == 0 && size > WHOLE_MAX)
		rc = write_list_save_bytes(w, e, l->fd, edge, edge, &head, err);
	return rc < 0 ? -1 : 0;
}

static int write_list_take(struct files_write_list *w, const char *path, struct written_entry *e,
			   const struct observation *l, int64_t now, struct err *err)
{
	cleanup_free struct file_record *before = NULL;

	if (l->same)
		return 0;
	write_list_drop_copy(w, e);
	if (!l->found || !S_ISREG(l->st.st_mode)) {
		bool gone = !l->found && (l->error == ENOENT || l->error == ENOTDIR);

		*e = (struct written_entry){ .state = gone ? NOT_THERE : LEFT_OUT, .error = gone ? 0 : l->error };
		return 0;
	}
	write_list_note_state(e, &l->st, now);
	if (l->fd < 0) {
		e->error = l->error;
		return 0;
	}
	e->acl = file_has_acl(l->fd);
	before = xcalloc(1, sizeof(*before));
	write_list_read_previous(w, path, before);
	if (before->class == FILE_CLOSED && *before->saved && !w->frozen && write_list_matches_record(e, before) &&
	    write_list_link_previous(w, e, before, file_data_bytes(&l->st)))
		return 0;
	return write_list_take_content(w, e, l, before, err);
}

static int write_list_take_batch(struct files_write_list *w, size_t from, size_t to, const struct record_index *skip,
				 struct err *err)
{
	const struct files_cred *c = &w->o.cred;
	struct observation seen[BATCH];
	int64_t now = unix_us();
	struct user_rights own;
	int rc = 0;

	if (user_rights_take(&own, c->uid, c->gid, c->groups, c->n_groups, err) < 0)
		return -1;
	for (size_t i = from; i < to; i++)
		write_list_observe(w, w->journal.paths[i], &w->v[i], &seen[i - from]);
	user_rights_return(&own);
	for (size_t i = from; i < to; i++) {
		struct observation *l = &seen[i - from];

		if (rc == 0 && skip && record_index_find(skip, w->journal.paths[i])) {
			write_list_drop_copy(w, &w->v[i]);
			w->v[i] = (struct written_entry){ .state = LEFT_OUT };
		} else if (rc == 0) {
			rc = write_list_take(w, w->journal.paths[i], &w->v[i], l, now, err);
		}
		if (l->fd >= 0)
			close(l->fd);
	}
	return rc;
}

static int write_list_by_path(const void *a, const void *b)
{
	return strcmp(a, b);
}

void files_write_list_add(void *arg, const char *path)
{
	struct files_write_list *w = arg;

	if (w->n_added_ever++ >= ADDED_MAX)
		return;
	array_reserve(w->added, w->n_added, w->added_room);
	w->added[w->n_added++] = xstrdup(path);
}

/* Adds those paths that the journal does not have. */
static void write_list_merge_added(struct files_write_list *w)
{
	for (; w->n_added && w->n_known < w->journal.n; w->n_known++)
		tsearch(w->journal.paths[w->n_known], &w->known, write_list_by_path);
	for (size_t i = 0; i < w->n_added; i++) {
		if (tfind(w->added[i], &w->known, write_list_by_path))
			free(w->added[i]);
		else
			journal_add_path(&w->journal, w->added[i], &(struct packed){ w->o.private_tmp, w->o.scratch });
	}
	w->n_added = 0;
}

static int write_list_take_all(struct files_write_list *w, const struct record_index *skip, struct err *err)
{
	if (journal_read(&w->journal, w->jobfd, &(struct packed){ w->o.private_tmp, w->o.scratch }, err) < 0)
		return -1;
	write_list_merge_added(w);
	w->v = xrealloc(w->v, (w->journal.n + 1) * sizeof(*w->v));
	memset(w->v + w->n, 0, (w->journal.n - w->n) * sizeof(*w->v));
	w->n = w->journal.n;
	for (size_t i = 0; i < w->n; i += BATCH)
		if (write_list_take_batch(w, i, i + BATCH < w->n ? i + BATCH : w->n, skip, err) < 0)
			return -1;
	return 0;
}

/* ---- steps ------------------------------------------------------------- */

struct files_write_list *files_write_list_open(int jobfd, pid_t init_pid, int filesfd, const struct files_opts *o,
					       struct err *err)
{
	struct files_write_list *w = xcalloc(1, sizeof(*w));
	char root[32];

	w->o = *o;
	w->jobfd = jobfd;
	w->filesfd = filesfd;
	w->previous_filesfd = -1;
	w->left = o->file_limit;
	snprintf(root, sizeof(root), "/proc/%d/root", (int)init_pid);
	w->rootfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (w->rootfd >= 0)
		return w;
	err_sys(err, errno, "cannot open %s, the file system of the job", root);
	files_write_list_close(w);
	return NULL;
}

int files_write_list_prepare(struct files_write_list *w, const json_t *previous, int previous_filesfd, struct err *err)
{
	w->previous_filesfd = previous_filesfd;
	record_index_make(&w->previous, previous);
	return write_list_take_all(w, NULL, err);
}

int files_write_list_freeze(struct files_write_list *w, const json_t *open, struct err *err)
{
	struct record_index skip;
	int rc;

	w->frozen = true;
	record_index_make(&skip, open);
	rc = write_list_take_all(w, &skip, err);
	record_index_free(&skip);
	return rc;
}

/* Bytes of the copies of open files. These have precedence over the copies made here, because a restore is refused
 * without them. */
static uint64_t write_list_cost_of_open(const struct files_write_list *w, const json_t *records)
{
	const json_t *o;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(records, i, o) {
		const char *saved = json_string_value(json_object_get(o, "saved"));
		struct stat st;

		if (saved && fstatat(w->filesfd, saved, &st, AT_SYMLINK_NOFOLLOW) == 0)
			sum += file_data_bytes(&st);
	}
	return sum;
}

static void write_list_fill_record(const struct written_entry *e, struct file_record *r)
{
	r->class = e->digest[0] || e->size == 0 ? FILE_CLOSED : FILE_APPEND;
	r->appends = r->class == FILE_APPEND;
	r->dev = e->dev;
	r->ino = e->ino;
	r->size = e->size;
	r->mode = e->mode;
	r->gid = e->gid;
	r->acl = e->acl;
	r->mtime = e->mtime;
	r->ctime = e->ctime;
	memcpy(r->tail, e->tail, sizeof(r->tail));
	memcpy(r->digest, e->digest, sizeof(r->digest));
	if (!e->copy)
		return;
	write_list_copy_name(e->copy, r->saved);
	r->saved_size = e->copied;
}

static int write_list_finish_entry(struct files_write_list *w, const char *path, struct written_entry *e,
				   uint64_t *left, json_t *records, json_t *warnings, struct err *err)
{
	cleanup_free struct file_record *r = xcalloc(1, sizeof(*r));
	char shown[FILES_SHOWN];

	if (e->copy && e->cost > *left)
		write_list_drop_copy(w, e);
	if (e->state == SEEN && e->size > 0 && !e->copy && !e->error)
		add_warning(warnings,
			    "\"%s\" was written by the job and not saved: CheckpointFileLimit is reached. "
			    "A restore undoes what was added to it, but no other change",
			    show_path(path, shown));
	if (e->copy)
		*left -= e->cost;
	if (e->error)
		add_warning(warnings,
			    "\"%s\" was written by the job and cannot be read (%s): a restore will not undo all changes",
			    show_path(path, shown), open_path_error(e->error));
	if (e->state == LEFT_OUT || e->state == NEVER_SEEN)
		return 0;
	r->class = FILE_ABSENT;
	if (e->state == SEEN)
		write_list_fill_record(e, r);
	snprintf(r->path, sizeof(r->path), "%s", path);
	if (json_array_append_new(records, file_record_render(r)) < 0)
		return err_set(err, ENOMEM, "cannot record \"%s\"", show_path(path, shown));
	return 0;
}

int files_write_list_finish(struct files_write_list *w, json_t *records, json_t *warnings, struct err *err)
{
	uint64_t used = write_list_cost_of_open(w, records), left = used < w->o.file_limit ? w->o.file_limit - used : 0;

	for (size_t i = 0; i < w->n && json_array_size(records) < FILES_RECORDS_MAX; i++)
		if (write_list_finish_entry(w, w->journal.paths[i], &w->v[i], &left, records, warnings, err) < 0)
			return -1;
	return 0;
}

/* The journal owns the paths. */
static void write_list_keep_path(void *path)
{
	(void)path;
}

void files_write_list_close(struct files_write_list *w)
{
	if (!w)
		return;
	if (w->rootfd >= 0)
		close(w->rootfd);
	for (size_t i = 0; i < w->n_added; i++)
		free(w->added[i]);
	free(w->added);
	tdestroy(w->known, write_list_keep_path);
	journal_free(&w->journal);
	record_index_free(&w->previous);
	free(w->v);
	free(w);
}
