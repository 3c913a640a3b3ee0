/* The list of names of an epoch: all names in the directories in which the job has changed any.
 *
 * The directories are read before the freeze. In it only those are read again in which the job has changed a name
 * meanwhile, as the agent's journal says. Directories are found by handle and then opened by path, with the user's
 * rights, like everything else of the job's. */
#include "files/files_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/user_rights.h"
#include "base/util.h"
#include "files/names.h"

#define NAMES_LISTED_MAX 50000 /* names of an epoch */
#define NAMES_DIR_MAX    20000 /* names of one directory */
#define NAMES_BATCH      256   /* directories for which the rights are taken once */

struct names_listing {
	char *text; /* records of the table; owned; NULL = none: it is gone, too large, or may not be read */
	size_t len;
	unsigned n;    /* names */
	bool too_many; /* there is none because it, or all together, would have too many names */
};

struct files_name_list {
	struct files_opts o;
	int jobfd, rootfd, filesfd;
	struct names names;
	struct names_source journal;
	struct names_listing *listings; /* one for each directory */
	size_t n_listings;
	unsigned n;     /* names of all listings */
	size_t n_given; /* names that files_name_list_give() has passed on */
};

/* ---- one directory -------------------------------------------------------- */

static bool names_append_target(FILE *out, int dirfd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (n <= 0)
		return false;
	target[n] = '\0';
	fprintf(out, "T%s", target);
	fputc('\0', out);
	return true;
}

/* Appends the record of one name. False if it cannot be examined and so is left out; it is gone, perhaps. */
static bool names_append_name(FILE *out, const struct name_fs *fs, size_t number, int dirfd, const struct dirent *d)
{
	char id[NAME_ID];
	struct stat st = { .st_mode = S_IFREG };

	if (name_id_of(fs, dirfd, d->d_name, id) < 0)
		return false;
	if (d->d_type != DT_REG && fstatat(dirfd, d->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return false;
	fprintf(out, "E%zu\t%s\t%c\t%o\t%s", number, id, name_kind_of(st.st_mode), (unsigned)st.st_mode & 07777,
		d->d_name);
	fputc('\0', out);
	return !S_ISLNK(st.st_mode) || names_append_target(out, dirfd, d->d_name);
}

/* 0, or -1 if the directory has too many names; l->text is NULL then, or if it cannot be read. */
static int names_list_dir(const struct files_name_list *f, size_t i, struct names_listing *l)
{
	const struct name_dir *d = &f->names.dirs[i];
	cleanup_close int pathfd = d->now ? open_path_of(f->rootfd, d->now, f->o.cred.uid) : -1;
	cleanup_dir DIR *dir = pathfd < 0 ? NULL : dir_open_at(pathfd, ".");
	const struct dirent *e = NULL;
	char id[NAME_ID];
	struct name_fs fs;
	FILE *out;
	int more;

	if (!dir || name_fs_of(dirfd(dir), &fs) < 0 || name_id_of(&fs, dirfd(dir), "", id) < 0 || strcmp(id, d->id) != 0)
		return 0;
	out = open_memstream(&l->text, &l->len);
	if (!out)
		return 0;
	fprintf(out, "D%zu\t%s\t%s", i, d->id, d->now);
	fputc('\0', out);
	while ((more = dir_next(dir, &e)) > 0 && l->n < NAMES_DIR_MAX)
		l->n += names_append_name(out, &fs, i, dirfd(dir), e);
	fclose(out);
	if (more == 0)
		return 0;
	free(l->text);
	*l = (struct names_listing){ 0 };
	return more < 0 ? 0 : -1;
}

static void names_list_again(struct files_name_list *f, size_t i)
{
	struct names_listing *l = &f->listings[i];
	int rc;

	f->n -= l->n;
	free(l->text);
	*l = (struct names_listing){ 0 };
	rc = f->n < NAMES_LISTED_MAX ? names_list_dir(f, i, l) : -1;
	f->n += l->n;
	l->too_many = rc < 0;
}

/* Lists the directories, or those with `changed` set. */
static int names_list_all(struct files_name_list *f, bool all, struct err *err)
{
	const struct files_cred *c = &f->o.cred;
	struct user_rights own;

	f->listings = xrealloc(f->listings, (f->names.n_dirs + 1) * sizeof(*f->listings));
	memset(f->listings + f->n_listings, 0, (f->names.n_dirs - f->n_listings) * sizeof(*f->listings));
	f->n_listings = f->names.n_dirs;
	names_locate(&f->names, f->rootfd, c->uid, all);
	if (user_rights_take(&own, c->uid, c->gid, c->groups, c->n_groups, err) < 0)
		return -1;
	for (size_t i = 0; i < f->n_listings; i++)
		if (all || f->names.dirs[i].changed)
			names_list_again(f, i);
	user_rights_return(&own);
	return 0;
}

/* ---- steps ------------------------------------------------------------- */

struct files_name_list *files_name_list_open(int jobfd, pid_t init_pid, int filesfd, const struct files_opts *o,
					     struct err *err)
{
	struct files_name_list *f = xcalloc(1, sizeof(*f));
	char root[32];

	f->o = *o;
	f->jobfd = jobfd;
	f->filesfd = filesfd;
	f->journal.clears = true;
	snprintf(root, sizeof(root), "/proc/%d/root", (int)init_pid);
	f->rootfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (f->rootfd >= 0)
		return f;
	err_sys(err, errno, "cannot open %s, the file system of the job", root);
	files_name_list_close(f);
	return NULL;
}

int files_name_list_prepare(struct files_name_list *f, struct err *err)
{
	if (names_read(&f->names, &f->journal, f->jobfd, FILES_NAMES, err) < 0)
		return -1;
	return names_list_all(f, true, err);
}

int files_name_list_freeze(struct files_name_list *f, int64_t *interval, struct err *err)
{
	f->journal.clears = false;
	if (names_read(&f->names, &f->journal, f->jobfd, FILES_NAMES, err) < 0)
		return -1;
	*interval = f->journal.interval;
	return names_list_all(f, false, err);
}

void files_name_list_give(struct files_name_list *f, void (*take)(void *arg, const char *path), void *arg)
{
	char path[PATH_MAX];

	for (; f->n_given < f->names.n; f->n_given++) {
		const struct name_entry *e = &f->names.v[f->n_given];
		const char *dir = f->names.dirs[e->dir].now;

		if (e->put && dir && snprintf(path, sizeof(path), "%s/%s", dir[1] ? dir : "", e->name) < PATH_MAX)
			take(arg, path);
	}
}

int files_name_list_finish(struct files_name_list *f, json_t *warnings, struct err *err)
{
	cleanup_close int fd = openat(f->filesfd, NAMES_TABLE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
				      0600);

	unsigned too_many = 0;

	if (fd < 0)
		return err_sys(err, errno, "cannot make files/%s in the checkpoint", NAMES_TABLE);
	for (size_t i = 0; i < f->n_listings; i++) {
		const struct names_listing *l = &f->listings[i];

		too_many += l->too_many;
		if (l->text && write_all(fd, l->text, l->len) < 0)
			return err_sys(err, errno, "cannot write files/%s in the checkpoint", NAMES_TABLE);
	}
	if (too_many)
		add_warning(warnings,
			    "%u %s of the job %s more than %d names, or all together more than %d: symbolic links, fifos and directories that are "
			    "deleted there may not come back at a restore",
			    too_many, too_many == 1 ? "directory" : "directories", too_many == 1 ? "has" : "have",
			    NAMES_DIR_MAX, NAMES_LISTED_MAX);
	return 0;
}

void files_name_list_close(struct files_name_list *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n_listings; i++)
		free(f->listings[i].text);
	free(f->listings);
	names_free(&f->names);
	names_source_free(&f->journal);
	if (f->rootfd >= 0)
		close(f->rootfd);
	free(f);
}
