/* Scratch directories of the job on the node's disk (PodScratch), which are saved whole like the private /tmp.
 *
 * They belong to the job's user, who can change everything below them at any time. A path is walked component by
 * component without following symbolic links, only what belongs to the user is saved, and everything is put back with
 * his rights. A directory counts only if its name, or that of a directory above it, contains the job's id: two jobs
 * that share one would take each other's files back at a restart. */
#include "files/files_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/json.h"
#include "base/user_rights.h"
#include "base/util.h"

#define ENVIRON_MAX (4u << 20)
#define PIDS_MAX    64 /* whose environment is looked at */

/* ---- paths ----------------------------------------------------------------- */

/* Calls fn for each directory of the list; stops when it does not return 0, and returns that. */
static int scratch_each_root(const char *roots, int (*fn)(void *arg, const char *root), void *arg)
{
	cleanup_free char *list = xstrdup(roots);
	char *next = list, *root;
	int rc = 0;

	while (rc == 0 && (root = strsep(&next, ":"))) {
		for (size_t n = strlen(root); n > 1 && root[n - 1] == '/'; n--)
			root[n - 1] = '\0';
		if (path_is_plain(root))
			rc = fn(arg, root);
	}
	return rc;
}

static bool scratch_has_id(const char *text, const char *id)
{
	const size_t n = strlen(id);

	for (const char *p = text; n && (p = strstr(p, id)); p++)
		if ((p == text || !isdigit((unsigned char)p[-1])) && !isdigit((unsigned char)p[n]))
			return true;
	return false;
}

/* Whether others than root can rename what root makes there, and put another directory in its place before root gives
 * it away: one of another user's, for example. In a sticky directory of root they cannot. */
static bool scratch_others_rename(const struct stat *dir)
{
	const mode_t group = dir->st_gid ? S_IWGRP : 0;

	return dir->st_uid || (!(dir->st_mode & S_ISVTX) && dir->st_mode & (group | S_IWOTH));
}

/* Makes a directory for the user: with his rights wherever he could put another in its place. */
static int scratch_make(int dirfd, const char *name, const struct files_cred *cred, mode_t mode)
{
	cleanup_close int fd = -1;
	struct user_rights own;
	struct stat st;
	int rc;

	if (fstat(dirfd, &st))
		return -1;
	if (scratch_others_rename(&st)) {
		if (user_rights_take(&own, cred->uid, cred->gid, cred->groups, cred->n_groups, NULL))
			return -1;
		rc = mkdirat(dirfd, name, mode);
		user_rights_return(&own);
		return rc;
	}
	if (mkdirat(dirfd, name, 0700))
		return -1;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fchown(fd, cred->uid, cred->gid) || fchmod(fd, mode) ? -1 : 0;
}

/* Opens the directory without following a symbolic link anywhere in its path. With make, missing directories below the
 * first `given` bytes of the path are made for the user. A descriptor, or -1 with errno. */
static int scratch_walk(const char *path, size_t given, const struct files_cred *make, mode_t mode)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	cleanup_free char *copy = xstrdup(path);
	cleanup_close int fd = open("/", flags);
	char *next = copy + 1, *name;

	while (fd >= 0 && (name = strsep(&next, "/"))) {
		const bool may_make = make && (size_t)(name - copy) > given;
		int inner = openat(fd, name, flags);

		if (inner < 0 && errno == ENOENT && may_make && scratch_make(fd, name, make, next ? 0700 : mode) == 0)
			inner = openat(fd, name, flags);
		close(fd);
		fd = inner;
	}
	return steal_fd(&fd);
}

int scratch_open(const char *path, uid_t uid)
{
	cleanup_close int fd = scratch_walk(path, 0, NULL, 0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return -1;
	errno = EPERM;
	return st.st_uid == uid ? steal_fd(&fd) : -1;
}

bool scratch_has(const struct files_scratch *s, const char *path)
{
	for (size_t i = 0; s && i < s->n; i++)
		if (path_is_below(path, s->v[i].path) || !strcmp(path, s->v[i].path))
			return true;
	return false;
}

static void scratch_add(struct files_scratch *s, const char *path, mode_t mode)
{
	array_reserve(s->v, s->n, s->room);
	s->v[s->n++] = (struct files_scratch_dir){ xstrdup(path), mode };
}

void files_scratch_free(struct files_scratch *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].path);
	free(s->v);
	*s = (struct files_scratch){ 0 };
}

/* ---- which --------------------------------------------------------------------- */

struct scratch_search {
	struct files_scratch *found;
	const struct files_scratch_search *how;
	const char *tmpdir; /* of the job; NULL while directories are searched by their names */
};

/* Directories right below the root that belong to the user and have the job's id in their names. */
static int scratch_search_root(void *arg, const char *root)
{
	const struct scratch_search *s = arg;
	cleanup_close int fd = scratch_walk(root, 0, NULL, 0);
	cleanup_dir DIR *dir = fd < 0 ? NULL : dir_open_at(fd, ".");
	const struct dirent *e;
	struct stat st;

	while (dir && s->how->job_id[0] && dir_next(dir, &e) > 0) {
		cleanup_free char *path = xasprintf("%s/%s", root, e->d_name);

		if (scratch_has_id(e->d_name, s->how->job_id) &&
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
		    st.st_uid == s->how->uid && !scratch_has(s->found, path) && s->found->n < FILES_SCRATCH_MAX)
			scratch_add(s->found, path, st.st_mode & 0777);
	}
	return 0;
}

/* The directory that TMPDIR of the job names, if it is below the root. */
static int scratch_take_tmpdir(void *arg, const char *root)
{
	const struct scratch_search *s = arg;
	cleanup_close int fd = -1;
	struct stat st;

	if (!path_is_below(s->tmpdir, root) || scratch_has(s->found, s->tmpdir))
		return 0;
	/* Without Slurm there is no id. */
	if (s->how->job_id[0] && !scratch_has_id(s->tmpdir + strlen(root), s->how->job_id))
		return 0;
	fd = scratch_open(s->tmpdir, s->how->uid);
	if (fd >= 0 && fstat(fd, &st) == 0 && s->found->n < FILES_SCRATCH_MAX)
		scratch_add(s->found, s->tmpdir, st.st_mode & 0777);
	return 1;
}

/* The value of TMPDIR in the process; the caller frees it. NULL: none that is a path. */
static char *scratch_tmpdir_of(pid_t pid)
{
	cleanup_free char *text = NULL;
	char name[40];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/environ", (int)pid);
	n = read_file_at(AT_FDCWD, name, ENVIRON_MAX, &text);
	for (char *p = text; n > 0 && p < text + n; p += strlen(p) + 1) {
		char *value = strncmp(p, "TMPDIR=", 7) ? NULL : p + 7;

		for (size_t len = value ? strlen(value) : 0; len > 1 && value[len - 1] == '/'; len--)
			value[len - 1] = '\0';
		if (value && path_is_plain(value))
			return xstrdup(value);
	}
	return NULL;
}

void files_scratch_find(struct files_scratch *s, const struct files_scratch_search *how, const pid_t *pids, int n)
{
	struct scratch_search search = { .found = s, .how = how };

	files_scratch_free(s);
	if (!how->roots[0])
		return;
	scratch_each_root(how->roots, scratch_search_root, &search);
	for (int i = 0; i < n && i < PIDS_MAX; i++) {
		cleanup_free char *tmpdir = scratch_tmpdir_of(pids[i]);

		search.tmpdir = tmpdir;
		if (tmpdir && !(how->private_tmp && path_is_below(tmpdir, "/tmp")) &&
		    scratch_each_root(how->roots, scratch_take_tmpdir, &search))
			return;
	}
}

/* ---- the manifest ---------------------------------------------------------------- */

json_t *files_scratch_render(const struct files_scratch *s)
{
	json_t *list = s->n ? json_array() : NULL;

	for (size_t i = 0; i < s->n; i++) {
		json_t *o = json_pack("{s:I}", "mode", (json_int_t)s->v[i].mode);

		json_set_name(o, "path", s->v[i].path);
		json_array_append_new(list, o);
	}
	return list;
}

int files_scratch_parse(struct files_scratch *s, const json_t *list, struct err *err)
{
	char path[4096];
	const json_t *o;
	int64_t mode;
	size_t i;

	files_scratch_free(s);
	json_array_foreach(list, i, o) {
		if (json_get_name(o, "path", path, sizeof(path), err) || json_get_int(o, "mode", 0, 0777, &mode, err))
			return -1;
		if (!path_is_plain(path) || s->n == FILES_SCRATCH_MAX)
			return err_set(err, EBADMSG, "the epoch's list of scratch directories is damaged");
		scratch_add(s, path, (mode_t)mode);
	}
	return 0;
}

/* ---- back -------------------------------------------------------------------------- */

struct scratch_place {
	const char *path;
	size_t root; /* length of the root's path */
};

static int scratch_is_root_of(void *arg, const char *root)
{
	struct scratch_place *p = arg;

	p->root = strlen(root);
	return path_is_below(p->path, root);
}

/* Opens the directory on this node, and makes it where there is none. */
static int scratch_open_place(const struct files_scratch_dir *d, const char *roots, const struct files_cred *cred,
			      struct err *err)
{
	struct scratch_place p = { .path = d->path };
	cleanup_close int fd = -1;
	char shown[FILES_SHOWN];
	struct stat st;

	if (!scratch_each_root(roots, scratch_is_root_of, &p))
		return err_set(err, ENOENT, "\"%s\" is below no directory of PodScratch on this node",
			       show_path(d->path, shown));
	fd = scratch_walk(d->path, p.root, cred, d->mode);
	if (fd < 0 || fstat(fd, &st))
		return err_sys(err, errno, "cannot open the job's scratch directory \"%s\"", show_path(d->path, shown));
	if (st.st_uid != cred->uid)
		return err_set(err, EPERM, "the job's scratch directory \"%s\" belongs to uid %u on this node",
			       show_path(d->path, shown), (unsigned)st.st_uid);
	return steal_fd(&fd);
}

/* Removes what is in the directory. The caller has the user's rights. */
static int scratch_empty(int fd)
{
	cleanup_dir DIR *dir = dir_open_at(fd, ".");
	const struct dirent *e;
	int more = dir ? 0 : -1;

	while (dir && (more = dir_next(dir, &e)) > 0)
		if (remove_tree_at(fd, e->d_name))
			return -1;
	return more;
}

static int scratch_put_back(const struct files_scratch_dir *d, unsigned number, const char *roots, int filesfd,
			    const struct files_cred *cred, struct err *err)
{
	cleanup_close int fd = scratch_open_place(d, roots, cred, err);
	char archive[32], data[32], shown[FILES_SHOWN];
	const struct packed_tree tree = { archive, show_path(d->path, shown), data, cred->uid };
	struct user_rights own;
	int rc, saved;

	scratch_names(number, archive, data);
	if (fd < 0 || user_rights_take(&own, cred->uid, cred->gid, cred->groups, cred->n_groups, err))
		return -1;
	rc = scratch_empty(fd);
	saved = errno;
	user_rights_return(&own);
	if (rc)
		return err_sys(err, saved, "cannot empty the job's scratch directory \"%s\"", shown);
	return tree_unpack(fd, filesfd, &tree, cred, NULL, err);
}

void scratch_names(unsigned number, char archive[32], char data[32])
{
	snprintf(archive, 32, "scratch-%u.tar", number);
	snprintf(data, 32, "scratch-%u", number);
}

int files_scratch_put_back(const struct files_scratch *s, const char *roots, int filesfd, const struct files_cred *cred,
			   json_t *warnings, struct err *err)
{
	char shown[FILES_SHOWN];

	for (size_t i = 0; i < s->n; i++) {
		if (scratch_put_back(&s->v[i], (unsigned)i, roots, filesfd, cred, err))
			return -1;
		add_warning(warnings,
			    "the files in the job's scratch directory \"%s\" have other inode numbers than before",
			    show_path(s->v[i].path, shown));
	}
	return 0;
}
