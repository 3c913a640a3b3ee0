/* Undoes what the job did to names after an epoch (names.h).
 *
 * For each name that the job has changed since, three files matter: what it led to at the epoch (wanted), what it leads
 * to now, and what the job has put there last. What is there now is
 * - moved to its place of the epoch, if it has one: by a rename, or by an exchange where another such file is in the
 * way
 * - removed, if it has none and is what the job has put there, made after the freeze and the user's
 * - left otherwise, with a warning: another has put it there, or it cannot be told.
 * Then what is missing is made again: directories, symbolic links, fifos, and hard links to files that have another
 * name. All this is repeated until nothing more can be done, since a directory has to come back before the names in it,
 * and is empty only after them. Each step is one system call after which the tree is nearer to that of the epoch, so an
 * undo that was interrupted can be repeated.
 *
 * The parent finds the directories by handle. The child has the user's rights only, opens them by path, and compares
 * their handles. From then on it uses names in these directories and no path, so nobody can redirect it. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "files/names.h"

#define UNDO_ROUNDS   1000
#define UNDO_WARNINGS 50     /* of single names */
#define UNDO_COUNTED  100000 /* names of each kind that are counted: the answer to the parent has a limit */
#define UNDO_WANTED   (STATX_TYPE | STATX_MODE | STATX_UID | STATX_NLINK | STATX_BTIME)

/* What is in a place now. */
struct place {
	char *id; /* owned; NULL = nothing */
	mode_t mode;
	uid_t uid;
	unsigned nlink;
	bool born_since; /* made after the freeze */
	bool left;       /* it stays as it is; a warning was given */
};

/* The step's context. */
struct undo_names {
	struct file_batch batch; /* first: the step gets a pointer to it */
	struct names *names;
	const struct record_index *records; /* of files with content */
	int64_t frozen_at;                  /* Unix us */
	bool links_only;                    /* see files_link_names() */
	/* In the child only: */
	struct place *places;
	uint32_t *by_was, *by_now; /* hash tables of entries by ID: index + 1 */
	size_t n_slots;            /* a power of two */
	unsigned warned, counted[UCHAR_MAX + 1];
};

/* ---- looking --------------------------------------------------------------- */

static int undo_names_fd(const struct undo_names *u, const struct name_entry *e)
{
	return u->names->dirs[e->dir].fd;
}

static void undo_names_look(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	struct place *p = &u->places[i];
	const int dir = undo_names_fd(u, e);
	char id[NAME_ID];
	struct name_fs fs;
	struct statx st;

	free(p->id);
	p->id = NULL;
	if (dir < 0 || statx(dir, e->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, UNDO_WANTED, &st) < 0 ||
	    name_fs_of(dir, &fs) < 0 || name_id_of(&fs, dir, e->name, id) < 0)
		return;
	p->id = xstrdup(id);
	p->mode = st.stx_mode;
	p->uid = st.stx_uid;
	p->nlink = st.stx_nlink;
	p->born_since = name_born_since(&st, u->frozen_at);
}

static uint32_t undo_names_hash(const char *id)
{
	return names_hash(NAMES_HASH, id);
}

static void undo_names_index(const struct undo_names *u, uint32_t *slots, const char *id, size_t i)
{
	size_t k = undo_names_hash(id) & (u->n_slots - 1);

	while (slots[k])
		k = (k + 1) & (u->n_slots - 1);
	slots[k] = (uint32_t)i + 1;
}

/* The next entry that led to the file at the epoch. *k: state of the search, undo_names_hash(id) at first. -1: none. */
static long undo_names_next_home(const struct undo_names *u, const char *id, uint32_t *k)
{
	for (;;) {
		uint32_t slot = u->by_was[(*k)++ & (u->n_slots - 1)];

		if (!slot)
			return -1;
		if (strcmp(u->names->v[slot - 1].was, id) == 0)
			return (long)slot - 1;
	}
}

static bool undo_names_has_home(const struct undo_names *u, const char *id)
{
	uint32_t k = undo_names_hash(id);

	return undo_names_next_home(u, id, &k) >= 0;
}

/* True if a changed name leads to the file now. */
static bool undo_names_is_somewhere(const struct undo_names *u, const char *id)
{
	for (uint32_t k = undo_names_hash(id);; k++) {
		uint32_t slot = u->by_now[k & (u->n_slots - 1)];

		if (!slot)
			return false;
		if (u->places[slot - 1].id && strcmp(u->places[slot - 1].id, id) == 0)
			return true;
	}
}

static void undo_names_look_at_all(struct undo_names *u)
{
	memset(u->by_now, 0, u->n_slots * sizeof(*u->by_now));
	for (size_t i = 0; i < u->names->n; i++) {
		if (!u->names->v[i].changed)
			continue;
		undo_names_look(u, i);
		if (u->places[i].id)
			undo_names_index(u, u->by_now, u->places[i].id, i);
	}
}

/* ---- messages ------------------------------------------------------------- */

static void undo_names_path(const struct undo_names *u, size_t i, char path[PATH_MAX])
{
	const struct name_entry *e = &u->names->v[i];
	const struct name_dir *d = &u->names->dirs[e->dir];

	if (snprintf(path, PATH_MAX, "%s/%s", d->path[1] ? d->path : "", e->name) >= PATH_MAX)
		snprintf(path, PATH_MAX, "%s", e->name);
}

static void undo_names_leave(struct undo_names *u, size_t i, const char *why)
{
	char path[PATH_MAX];

	undo_names_path(u, i, path);
	if (!u->places[i].left && u->warned++ < UNDO_WARNINGS)
		file_batch_warn(&u->batch, path, "%s%s", why,
				u->warned == UNDO_WARNINGS ? "; there are more such names" : "");
	u->places[i].left = true;
}

static bool undo_names_done(struct undo_names *u, size_t i, enum batch_message kind)
{
	char path[PATH_MAX];

	undo_names_path(u, i, path);
	if (u->counted[kind]++ < UNDO_COUNTED)
		file_batch_count(&u->batch, kind, u->counted[kind] == 1 ? path : "");
	return true;
}

static bool undo_names_failed(struct undo_names *u, size_t i, const char *what)
{
	char why[160];

	snprintf(why, sizeof(why), "was changed by the job after the checkpoint and cannot be %s: %s", what,
		 strerror(errno));
	undo_names_leave(u, i, why);
	return false;
}

/* ---- what is there now ------------------------------------------------------ */

/* The symbolic link in the place has the target that the wanted one had. */
static bool undo_names_same_target(const struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	char target[PATH_MAX];
	ssize_t n = readlinkat(undo_names_fd(u, e), e->name, target, sizeof(target) - 1);

	if (n < 0 || !e->target)
		return false;
	target[n] = '\0';
	return strcmp(target, e->target) == 0;
}

/* What was there still has another of its names of the epoch, perhaps one that the job has not changed. */
static bool undo_names_has_other_name(struct undo_names *u, size_t i)
{
	const char *was = u->names->v[i].was;
	uint32_t k = undo_names_hash(was);
	long h;

	while ((h = undo_names_next_home(u, was, &k)) >= 0) {
		if ((size_t)h == i)
			continue;
		undo_names_look(u, (size_t)h);
		if (u->places[h].id && strcmp(u->places[h].id, was) == 0)
			return true;
	}
	return false;
}

/* What is there is as good as what was: another file of the same kind, where what was is gone. The content of a regular
 * file is put back by files_put_back(). */
static bool undo_names_is_as_good(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const struct place *p = &u->places[i];

	if (!e->was || !p->id || undo_names_is_somewhere(u, e->was) || undo_names_has_home(u, p->id) ||
	    name_kind_of(p->mode) != e->kind || p->uid != u->batch.cred->uid || undo_names_has_other_name(u, i))
		return false;
	return e->kind == KIND_LINK ? undo_names_same_target(u, i) : true;
}

static bool undo_names_is_right(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const char *now = u->places[i].id;

	if (!e->was || !now)
		return e->known && !e->was && !now;
	return strcmp(e->was, now) == 0 || undo_names_is_as_good(u, i);
}

/* What is there belongs to no place of the epoch, and the job has put it there. A hard link may go as long as the file
 * has another name. */
static bool undo_names_is_removable(const struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const struct place *p = &u->places[i];

	return p->id && e->put && strcmp(p->id, e->put) == 0 && p->uid == u->batch.cred->uid &&
	       !undo_names_has_home(u, p->id) && (p->born_since || (!S_ISDIR(p->mode) && p->nlink > 1));
}

static bool undo_names_remove(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const int flags = S_ISDIR(u->places[i].mode) ? AT_REMOVEDIR : 0;

	if (unlinkat(undo_names_fd(u, e), e->name, flags) == 0)
		return undo_names_done(u, i, BATCH_REMOVED);
	/* A later round may find it empty; what remains is reported at the end. */
	return errno == ENOTEMPTY || errno == EEXIST ? false : undo_names_failed(u, i, "removed");
}

/* Moves what is in place i to h, where it was at the epoch. */
static bool undo_names_move(struct undo_names *u, size_t i, size_t h)
{
	const struct name_entry *from = &u->names->v[i], *to = &u->names->v[h];
	unsigned flags = RENAME_NOREPLACE;

	if (u->places[h].id && undo_names_is_removable(u, h) && !S_ISDIR(u->places[i].mode) && !S_ISDIR(u->places[h].mode))
		flags = 0;
	else if (u->places[h].id && undo_names_has_home(u, u->places[h].id))
		flags = RENAME_EXCHANGE;
	else if (u->places[h].id)
		return undo_names_is_removable(u, h) && undo_names_remove(u, h);
	if (renameat2(undo_names_fd(u, from), from->name, undo_names_fd(u, to), to->name, flags) == 0)
		return undo_names_done(u, h, BATCH_MOVED);
	/* A directory below itself: another one has to be moved first. */
	return errno == EINVAL || errno == EEXIST ? false : undo_names_failed(u, i, "moved back");
}

/* What is in place i has one or more places of the epoch. */
static bool undo_names_bring_home(struct undo_names *u, size_t i)
{
	uint32_t k = undo_names_hash(u->places[i].id);
	bool is_home = false;
	long h;

	while ((h = undo_names_next_home(u, u->places[i].id, &k)) >= 0) {
		undo_names_look(u, (size_t)h);
		if (u->places[h].id && strcmp(u->places[h].id, u->places[i].id) == 0)
			is_home = true;
		else if (undo_names_fd(u, &u->names->v[h]) >= 0 && undo_names_move(u, i, (size_t)h))
			return true;
	}
	if (!is_home || S_ISDIR(u->places[i].mode) || !u->names->v[i].put ||
	    strcmp(u->names->v[i].put, u->places[i].id) != 0)
		return false;
	if (unlinkat(undo_names_fd(u, &u->names->v[i]), u->names->v[i].name, 0) == 0)
		return undo_names_done(u, i, BATCH_REMOVED);
	return undo_names_failed(u, i, "removed");
}

/* True if something was done. */
static bool undo_names_clear(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	struct place *p = &u->places[i];

	if (undo_names_has_home(u, p->id))
		return undo_names_bring_home(u, i);
	if (e->was && undo_names_is_somewhere(u, e->was))
		return false; /* it is replaced when that comes home */
	if (undo_names_is_removable(u, i)) {
		if (!undo_names_remove(u, i))
			return false;
		if (!e->known)
			undo_names_leave(
				u, i,
				"was made after the checkpoint and has been removed; if it had replaced another file, that one does "
				"not come back");
		return true;
	}
	undo_names_leave(
		u, i,
		"has changed after the checkpoint and is left as it is: what is there now was not made by the job, as far as is "
		"known");
	return false;
}

/* ---- what is missing --------------------------------------------------------- */

/* The directory in place i takes the part of the one that was there. True if it did not before. */
static bool undo_names_adopt_dir(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const long dir = names_find_dir(u->names, e->was);

	if (dir < 0 || u->names->dirs[dir].fd >= 0)
		return false;
	u->names->dirs[dir].fd = openat(undo_names_fd(u, e), e->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return u->names->dirs[dir].fd >= 0;
}

static bool undo_names_made_dir(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	cleanup_close int fd = openat(undo_names_fd(u, e), e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (!e->listed || fd < 0 || fchmod(fd, e->mode & 01777) < 0)
		undo_names_leave(u, i, "was gone and has been made again as a directory of mode 0700");
	undo_names_adopt_dir(u, i);
	return undo_names_done(u, i, BATCH_REMADE);
}

/* Links the file to its name i, if it still has another one of the epoch. */
static bool undo_names_link(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	uint32_t k = undo_names_hash(e->was);
	long h;

	while ((h = undo_names_next_home(u, e->was, &k)) >= 0) {
		const struct name_entry *other = &u->names->v[h];

		undo_names_look(u, (size_t)h);
		if (u->places[h].id && strcmp(u->places[h].id, e->was) == 0 && !S_ISDIR(u->places[h].mode) &&
		    linkat(undo_names_fd(u, other), other->name, undo_names_fd(u, e), e->name, 0) == 0)
			return undo_names_done(u, i, BATCH_REMADE);
	}
	return false;
}

static bool undo_names_make(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const int dir = undo_names_fd(u, e);

	if (!e->was || dir < 0 || undo_names_is_somewhere(u, e->was))
		return false;
	if (e->kind != KIND_DIR && undo_names_link(u, i))
		return true;
	if (e->kind == KIND_DIR && mkdirat(dir, e->name, 0700) == 0)
		return undo_names_made_dir(u, i);
	if (e->kind == KIND_LINK && e->target && symlinkat(e->target, dir, e->name) == 0)
		return undo_names_done(u, i, BATCH_REMADE);
	if (e->kind == KIND_FIFO && mkfifoat(dir, e->name, 0600) == 0) {
		if (fchmodat(dir, e->name, e->mode & 0777, AT_SYMLINK_NOFOLLOW) < 0)
			undo_names_failed(u, i, "given its mode");
		return undo_names_done(u, i, BATCH_REMADE);
	}
	return false;
}

/* ---- the child --------------------------------------------------------------- */

static void undo_names_raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* -1 with errno; ESTALE: the path leads to another directory by now. */
static int undo_names_open_dir(const struct undo_names *u, const struct name_dir *d)
{
	cleanup_close int fd = open_path_of(-1, d->now, u->batch.cred->uid);
	char id[NAME_ID];
	struct name_fs fs;

	if (fd < 0 || name_fs_of(fd, &fs) < 0 || name_id_of(&fs, fd, "", id) < 0)
		return -1;
	errno = ESTALE;
	return strcmp(id, d->id) == 0 ? steal_fd(&fd) : -1;
}

static void undo_names_open_dirs(struct undo_names *u, bool changed)
{
	for (size_t i = 0; i < u->names->n_dirs; i++) {
		struct name_dir *d = &u->names->dirs[i];

		if (!d->now || d->changed != changed)
			continue;
		d->fd = undo_names_open_dir(u, d);
		if (d->fd < 0 && changed && u->warned++ < UNDO_WARNINGS)
			file_batch_warn(
				&u->batch, d->path,
				"is a directory in which the job changed names after the checkpoint, which are left: %s",
				open_path_error(errno));
	}
}

/* All names of a directory that was made after the epoch were absent. */
static bool undo_names_is_new_dir(const struct undo_names *u, int fd)
{
	struct statx st;

	return fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) == 0 && name_born_since(&st, u->frozen_at);
}

static void undo_names_prepare(struct undo_names *u)
{
	struct names *x = u->names;

	u->places = xcalloc(x->n + 1, sizeof(*u->places));
	for (u->n_slots = 256; u->n_slots < x->n * 2; u->n_slots *= 2)
		;
	u->by_was = xcalloc(u->n_slots, sizeof(*u->by_was));
	u->by_now = xcalloc(u->n_slots, sizeof(*u->by_now));
	undo_names_raise_limit();
	undo_names_open_dirs(u, true);
	undo_names_open_dirs(u, false);
	for (size_t i = 0; i < x->n; i++) {
		struct name_entry *e = &x->v[i];

		/* A file that is not in the list of the epoch may be a directory that the journal has names of. */
		if (e->was && !e->kind && names_find_dir(x, e->was) >= 0)
			e->kind = KIND_DIR;
		e->known = e->known || undo_names_is_new_dir(u, undo_names_fd(u, e));
		if (e->was)
			undo_names_index(u, u->by_was, e->was, i);
	}
}

static bool undo_names_round(struct undo_names *u)
{
	bool any = false;

	undo_names_look_at_all(u);
	for (size_t i = 0; i < u->names->n; i++) {
		if (!u->names->v[i].changed || undo_names_fd(u, &u->names->v[i]) < 0)
			continue;
		undo_names_look(u, i);
		if (u->places[i].id && !u->places[i].left && !undo_names_is_right(u, i))
			any |= undo_names_clear(u, i);
	}
	undo_names_look_at_all(u);
	for (size_t i = 0; i < u->names->n; i++) {
		if (!u->names->v[i].changed)
			continue;
		if (!u->places[i].id)
			any |= undo_names_make(u, i);
		else if (u->names->v[i].kind == KIND_DIR && undo_names_is_as_good(u, i))
			any |= undo_names_adopt_dir(u, i);
	}
	return any;
}

static bool undo_names_has_copy(const struct undo_names *u, size_t i)
{
	char path[PATH_MAX];

	undo_names_path(u, i, path);
	return record_index_find(u->records, path);
}

/* Warns of what is not as it was. */
static void undo_names_tell(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	const struct place *p = &u->places[i];
	const bool replaced = e->was && p->id && strcmp(e->was, p->id) != 0 && e->kind == KIND_FILE;

	if (p->left || (undo_names_is_right(u, i) && !replaced))
		return;
	if (undo_names_fd(u, e) < 0) {
		if (e->was)
			undo_names_leave(
				u, i,
				"was changed after the checkpoint and is not looked at: its directory was not found");
		return;
	}
	if (e->was && !p->id && (e->kind == KIND_FILE || !e->kind) && !undo_names_has_copy(u, i))
		undo_names_leave(u, i,
				 "was deleted after the checkpoint, and no copy of it was made: it does not come back");
	else if (replaced && !undo_names_has_copy(u, i))
		undo_names_leave(u, i,
				 "was replaced after the checkpoint, and no copy of it was made: its new content stays");
	else if (e->was && !p->id && e->kind != KIND_FILE && e->kind)
		undo_names_leave(u, i, "was deleted after the checkpoint and cannot be made again");
	else if (p->id && !replaced)
		undo_names_leave(u, i, "was made or moved after the checkpoint and cannot be removed");
}

/* Finds the directories that were made again. */
static void undo_names_adopt_all(struct undo_names *u)
{
	bool any = true;

	while (any) {
		any = false;
		undo_names_look_at_all(u);
		for (size_t i = 0; i < u->names->n; i++)
			if (u->names->v[i].changed && u->names->v[i].kind == KIND_DIR && undo_names_is_as_good(u, i))
				any |= undo_names_adopt_dir(u, i);
	}
}

/* A file that had several names and lost all of them was made again under each name by itself. Links it to the names
 * after the first one. */
static void undo_names_link_group(struct undo_names *u, size_t i)
{
	const struct name_entry *e = &u->names->v[i];
	uint32_t k = undo_names_hash(e->was);
	const long first = undo_names_next_home(u, e->was, &k);
	const struct name_entry *f = &u->names->v[first];

	if ((size_t)first == i || undo_names_fd(u, f) < 0 || undo_names_fd(u, e) < 0)
		return;
	undo_names_look(u, (size_t)first);
	undo_names_look(u, i);
	const struct place *from = &u->places[first], *to = &u->places[i];
	if (!from->id || !S_ISREG(from->mode) || from->uid != u->batch.cred->uid || strcmp(from->id, e->was) == 0 ||
	    (to->id && (!S_ISREG(to->mode) || to->uid != u->batch.cred->uid || strcmp(to->id, e->was) == 0 ||
			strcmp(to->id, from->id) == 0)))
		return;
	if (to->id && unlinkat(undo_names_fd(u, e), e->name, 0) < 0)
		return;
	if (linkat(undo_names_fd(u, f), f->name, undo_names_fd(u, e), e->name, 0) < 0)
		undo_names_failed(u, i, "linked again");
	else
		undo_names_done(u, i, BATCH_REMADE);
}

static void undo_names_link_groups(struct undo_names *u)
{
	for (size_t i = 0; i < u->names->n; i++)
		if (u->names->v[i].changed && u->names->v[i].was && u->names->v[i].kind == KIND_FILE)
			undo_names_link_group(u, i);
}

static int undo_names_step(const struct file_batch *b, const struct file_record *r, int copy)
{
	struct undo_names u = *(const struct undo_names *)b;

	(void)r;
	(void)copy;
	undo_names_prepare(&u);
	if (u.links_only) {
		undo_names_adopt_all(&u);
		undo_names_link_groups(&u);
		return 0;
	}
	for (int i = 0; i < UNDO_ROUNDS && undo_names_round(&u); i++)
		;
	undo_names_look_at_all(&u);
	for (size_t i = 0; i < u.names->n; i++)
		if (u.names->v[i].changed)
			undo_names_tell(&u, i);
	return 0;
}

/* ---- the parent --------------------------------------------------------------- */

static void undo_names_report_count(json_t *warnings, const struct batch_count *c, unsigned epoch, const char *what)
{
	if (c->n)
		add_warning(warnings, "%s %u %s that the job changed after epoch %u, first %s", what, c->n,
			    c->n == 1 ? "name" : "names", epoch, c->first);
}

/* Trees that are packed as a whole are put back as a whole. */
static void undo_names_leave_packed(struct names *x, const struct files_undo *f)
{
	const struct packed packed = { f->private_tmp, f->scratch };

	for (size_t i = 0; i < x->n_dirs; i++) {
		struct name_dir *d = &x->dirs[i];

		if (!d->now || !path_is_packed(d->now, &packed))
			continue;
		free(d->now);
		d->now = NULL;
	}
}

/* Through overlays: what files_undo_locate() has found. When names have been undone the directories are where they were
 * at the epoch. */
static void undo_names_take_dirs(struct names *x, const json_t *dirs, bool undone)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < x->n_dirs; i++) {
		struct name_dir *d = &x->dirs[i];

		free(d->now);
		d->now = NULL;
		if (undone)
			d->now = xstrdup(d->path);
		else if (json_object_get(dirs, d->id) && json_get_name(dirs, d->id, path, sizeof(path), NULL) == 0)
			d->now = xstrdup(path);
	}
}

static int undo_names_read(struct names *x, struct names_source *table, struct names_source *journal, int jobfd,
			   int filesfd, struct err *err)
{
	return names_read(x, table, filesfd, NAMES_TABLE, err) < 0 || names_read(x, journal, jobfd, FILES_NAMES, err) < 0
		       ? -1
		       : 0;
}

static int undo_names_run(int jobfd, int filesfd, const struct files_undo *f, bool links_only, struct batch_outcome *o,
			  struct err *err)
{
	struct names names = { 0 };
	struct names_source table = { .table = true }, journal = { .from = f->names_from };
	struct record_index records;
	struct undo_names u = { .batch = { .step = undo_names_step, .cred = f->cred },
				.names = &names,
				.records = &records,
				.frozen_at = f->frozen_at,
				.links_only = links_only };
	const struct file_record none = { .class = FILE_ABSENT };
	int rc;

	record_index_make(&records, f->records);
	rc = undo_names_read(&names, &table, &journal, jobfd, filesfd, err);
	if (rc == 0 && names.lost && !links_only)
		add_warning(o->warnings, "not all changes of names after epoch %u are known: %s", f->epoch, names.lost);
	if (rc == 0 && names.n) {
		if (f->dirs)
			undo_names_take_dirs(&names, f->dirs, links_only);
		else
			names_locate(&names, -1, f->cred->uid, true);
		undo_names_leave_packed(&names, f);
		rc = file_batch_run(&u.batch, &none, 1, -1, o, err);
	}
	record_index_free(&records);
	names_source_free(&table);
	names_source_free(&journal);
	names_free(&names);
	return rc;
}

json_t *files_undo_locate(int jobfd, int filesfd, const struct files_undo *f, struct err *err)
{
	struct names_source table = { .table = true }, journal = { .from = f->names_from };
	struct names names = { 0 };
	json_t *dirs = json_object();
	int rc = f->names_from ? undo_names_read(&names, &table, &journal, jobfd, filesfd, err) : 0;

	if (rc == 0)
		names_locate(&names, -1, f->cred->uid, true);
	for (size_t i = 0; rc == 0 && i < names.n_dirs; i++)
		if (names.dirs[i].now)
			json_set_name(dirs, names.dirs[i].id, names.dirs[i].now);
	names_source_free(&table);
	names_source_free(&journal);
	names_free(&names);
	if (rc)
		json_decref(steal_ptr(&dirs));
	return dirs;
}

int files_undo_names(int jobfd, int filesfd, const struct files_undo *f, json_t *warnings, struct err *err)
{
	struct batch_outcome o = { .warnings = warnings };

	if (!f->names_from)
		return 0;
	if (undo_names_run(jobfd, filesfd, f, false, &o, err) < 0)
		return -1;
	undo_names_report_count(warnings, &o.removed, f->epoch, "removed");
	undo_names_report_count(warnings, &o.moved, f->epoch, "moved back");
	undo_names_report_count(warnings, &o.remade, f->epoch, "made again");
	if (o.errors)
		add_warning(warnings, "%s", o.first);
	return 0;
}

int files_link_names(int jobfd, int filesfd, const struct files_undo *f, json_t *warnings, struct err *err)
{
	struct batch_outcome o = { .warnings = warnings };

	return f->names_from ? undo_names_run(jobfd, filesfd, f, true, &o, err) : 0;
}
