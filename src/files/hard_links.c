/* Open files whose name is gone while another hard link exists, as after `ln part result; rm part`. A restore opens
 * files by name, so criu needs the other name. (ghosts.c handles files without any name.) The kernel does not tell the
 * other name, so directories are searched for it, with the rights of the job's user. */
#include "files/files_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/user_rights.h"
#include "base/proc.h"
#include "base/util.h"

#define AIO_RING_MAGIC 0xa10a10a1 /* of fs/aio.c; the kernel's UAPI headers have no name for it */
#define SEARCH_ENTRIES 100000     /* directory entries that are examined for one file */
#define SEARCH_DEPTH   4          /* levels of directories, up and down */

struct link_search {
	struct files_names *names;
	const struct files_opts *opts;
	int procfd, rootfd; /* /proc of the node; root directory of the pod */
	bool quick;         /* search only the directory of the name that is gone */
	struct stat st;     /* the file that is searched for */
	unsigned left;      /* entries that may still be examined */
	dev_t walked_dev;   /* the directory that was last searched with everything below it */
	ino_t walked_ino;
};

const char *files_names_lookup(const struct files_names *x, const struct stat *st)
{
	for (size_t i = 0; x && i < x->n; i++)
		if (x->v[i].dev == st->st_dev && x->v[i].ino == st->st_ino && !x->v[i].deleted)
			return x->v[i].path;
	return NULL;
}

void files_names_free(struct files_names *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->v[i].path);
	free(x->v);
	*x = (struct files_names){ 0 };
}

static bool hard_links_is_file(const struct link_search *l, int dirfd, const char *name)
{
	struct stat at;

	return stat_for_job(dirfd, name, &l->opts->cred, &at) == 0 && at.st_dev == l->st.st_dev &&
	       at.st_ino == l->st.st_ino;
}

static char *hard_links_join(const char *dir, const char *name)
{
	return xasprintf("%s/%s", strcmp(dir, "/") ? dir : "", name);
}

/* Searches the directory and depth levels below it for a name of the file. The caller frees the path. NULL: there is
 * none. */
static char *hard_links_search(struct link_search *l, const char *path, int depth)
{
	cleanup_dir DIR *dir = dir_open_at(l->rootfd, path[1] ? path + 1 : ".");
	const int fd = dir ? dirfd(dir) : -1;
	const struct dirent *e;
	char *found = NULL;
	struct stat st;

	if (!dir)
		return NULL;
	/* A hard link is on the same file system. */
	if (fstat(fd, &st) || st.st_dev != l->st.st_dev || (st.st_dev == l->walked_dev && st.st_ino == l->walked_ino))
		return NULL;
	while (!found && l->left > 0 && dir_next(dir, &e) > 0) {
		l->left--;
		if (e->d_ino == l->st.st_ino && hard_links_is_file(l, fd, e->d_name))
			found = hard_links_join(path, e->d_name);
	}
	if (depth == 0)
		return found;
	rewinddir(dir);
	while (!found && l->left > 0 && dir_next(dir, &e) > 0) {
		cleanup_free char *below = e->d_type == DT_DIR ? hard_links_join(path, e->d_name) : NULL;

		if (below)
			found = hard_links_search(l, below, depth - 1);
	}
	l->walked_dev = st.st_dev;
	l->walked_ino = st.st_ino;
	return found;
}

static bool path_to_parent(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || !path[1])
		return false;
	slash[slash == path] = '\0';
	return true;
}

/* Searches the directory of the name that the file had, then below that directory and each of its parents in turn, then
 * below the working directory of the process that has the file open. */
static char *hard_links_search_all(struct link_search *l, pid_t pid, const char *was)
{
	cleanup_free char *dir = xstrdup(was);
	char link[32], cwd[PATH_MAX], *found;
	ssize_t n;

	l->left = SEARCH_ENTRIES;
	l->walked_ino = 0;
	path_to_parent(dir);
	found = hard_links_search(l, dir, 0);
	for (int up = 0; !found && !l->quick && up < SEARCH_DEPTH; up++) {
		found = hard_links_search(l, dir, SEARCH_DEPTH);
		if (!path_to_parent(dir))
			break;
	}
	if (found || l->quick)
		return found;
	snprintf(link, sizeof(link), "%d/cwd", (int)pid);
	n = readlinkat(l->procfd, link, cwd, sizeof(cwd) - 1);
	if (n <= 0)
		return NULL;
	cwd[n] = '\0';
	return hard_links_search(l, cwd, SEARCH_DEPTH);
}

static char *hard_links_search_as_user(struct link_search *l, pid_t pid, const char *was)
{
	const struct files_cred *c = &l->opts->cred;
	struct user_rights own;
	char *found;

	if (user_rights_take(&own, c->uid, c->gid, c->groups, c->n_groups, NULL) < 0)
		return NULL;
	found = hard_links_search_all(l, pid, was);
	user_rights_return(&own);
	return found;
}

/* Sets the known name of a file; takes ownership of path. NULL: removes the entry of the inode, which belongs to an
 * earlier file. */
static void hard_links_remember(struct files_names *x, const struct stat *st, char *path)
{
	const struct files_name f = { st->st_dev, st->st_ino, path, st->st_nlink == 0 };
	size_t i = 0;

	while (i < x->n && (x->v[i].dev != st->st_dev || x->v[i].ino != st->st_ino))
		i++;
	if (i < x->n)
		free(x->v[i].path);
	if (!path) {
		if (i < x->n)
			x->v[i] = x->v[--x->n];
		return;
	}
	array_reserve(x->v, i, x->room);
	x->n += i == x->n;
	x->v[i] = f;
}

/* How the process has the file: "open as descriptor 5". ref: as in struct open_file. */
static void hard_links_open_as(const char *ref, char *as, size_t len)
{
	if (strstr(ref, "/fd/"))
		snprintf(as, len, "open as descriptor %.20s", strrchr(ref, '/') + 1);
	else
		snprintf(as, len, "%s", strstr(ref, "/exe") ? "as its program" : "mapped");
}

static int hard_links_refuse(pid_t pid, const char *ref, const char *was, const char *why, struct err *err)
{
	char who[PROC_DESCRIBED], shown[FILES_SHOWN], as[48];

	hard_links_open_as(ref, as, sizeof(as));
	return err_set(err, ENOENT,
		       "%s has \"%s\" %s; %s, so a restore could not open the file; close it or give it a name",
		       proc_describe(pid, who, sizeof(who)), show_path(was, shown), as, why);
}

static int hard_links_refuse_unreadable(pid_t pid, const char *ref, const char *was, struct err *err)
{
	char who[PROC_DESCRIBED], shown[FILES_SHOWN], as[48];

	hard_links_open_as(ref, as, sizeof(as));
	return err_set(err, EACCES,
		       "%s has \"%s\" %s, which the job's user may not read: its content cannot be saved for him; close it and "
		       "try again",
		       proc_describe(pid, who, sizeof(who)), show_path(was, shown), as);
}

static unsigned long hard_links_fs_type(const char *ref)
{
	char path[96];
	struct statfs fs;

	snprintf(path, sizeof(path), "/proc/%s", ref);
	return statfs(path, &fs) ? 0 : (unsigned long)fs.f_type;
}

/* True for the ring of io_setup(2): a file that never had a name and has one link nevertheless. criu makes it again. */
static bool is_aio_ring(const char *ref)
{
	return hard_links_fs_type(ref) == AIO_RING_MAGIC;
}

/* True if the link count may be wrong: overlayfs still counts the removed link of a file in a lower layer. criu knows
 * that and saves the content. A file that is open for writing is in the upper layer, where the count is right. */
static bool hard_links_count_is_wrong(const struct link_search *l, const char *ref)
{
	struct stat link;

	return hard_links_fs_type(ref) == OVERLAYFS_SUPER_MAGIC &&
	       fstatat(l->procfd, ref, &link, AT_SYMLINK_NOFOLLOW) == 0 && !(link.st_mode & S_IWUSR);
}

/* True for a file that the NFS client has renamed to .nfs... because it was deleted while open. criu makes a link of
 * its own to it, and removes that when the job goes on. */
static bool is_nfs_silly_renamed(const char *ref, const char *path)
{
	return !strncmp(strrchr(path, '/') + 1, ".nfs", 4) && hard_links_fs_type(ref) == NFS_SUPER_MAGIC;
}

/* False for a deleted file that the job's user may not read. criu saves the content of a deleted file, and a restore
 * makes a file of the user from it: the user must not get the content of a file that he has open only for writing or
 * with O_PATH. criu does not read such a file either (preload/reopen.c). */
static bool hard_links_may_be_saved(const struct link_search *l, const char *ref)
{
	const struct files_cred *c = &l->opts->cred;
	cleanup_close int pathfd = -1, fd = -1;
	struct stat link;

	if (!S_ISREG(l->st.st_mode) || c->uid == 0 || l->st.st_uid == c->uid)
		return true;
	/* The mode of the link of an open or mapped file tells how the file was opened; the link of a program does not.
	 */
	if (fstatat(l->procfd, ref, &link, AT_SYMLINK_NOFOLLOW) || (!strstr(ref, "/exe") && link.st_mode & S_IRUSR))
		return true;
	pathfd = openat(l->procfd, ref, O_PATH | O_CLOEXEC);
	if (pathfd < 0)
		return true; /* the process has closed it */
	fd = reopen_as_user(pathfd, c);
	return fd >= 0 || errno != EACCES;
}

/* Handles one open or mapped file; ref: its link, relative to /proc. 0, or -1 if the file has no usable name. */
static int hard_links_note(struct link_search *l, pid_t pid, const char *ref, struct err *err)
{
	static const char mark[] = " (deleted)";
	const size_t mark_len = sizeof(mark) - 1;
	char was[PATH_MAX + 1], *known;
	ssize_t n = readlinkat(l->procfd, ref, was, sizeof(was) - 1);

	if (n <= 0 || was[0] != '/')
		return 0;
	was[n] = '\0';
	if (l->opts->runs_on && is_nfs_silly_renamed(ref, was))
		return hard_links_refuse(
			pid, ref, was,
			"it was deleted, and on NFS it will be gone for good with the last process that has it open",
			err);
	if (fstatat(l->procfd, ref, &l->st, 0))
		return 0;
	if (l->st.st_nlink == 0 && !hard_links_may_be_saved(l, ref))
		return hard_links_refuse_unreadable(pid, ref, was, err);
	if (n <= (ssize_t)mark_len || memcmp(was + n - mark_len, mark, mark_len) ||
	    hard_links_is_file(l, l->rootfd, was + 1))
		return 0;
	was[(size_t)n - mark_len] = '\0';
	if (l->st.st_nlink == 0) {
		hard_links_remember(l->names, &l->st, ghost_place(l->rootfd, was, &l->st, l->opts));
		return 0;
	}
	if (S_ISDIR(l->st.st_mode) || is_aio_ring(ref))
		return 0;
	known = (char *)(uintptr_t)files_names_lookup(l->names, &l->st);
	if (known && hard_links_is_file(l, l->rootfd, known + 1))
		return 0;
	known = hard_links_search_as_user(l, pid, was);
	if (known)
		hard_links_remember(l->names, &l->st, known);
	if (known || hard_links_count_is_wrong(l, ref))
		return 0;
	return hard_links_refuse(pid, ref, was,
				 "that name is gone, and the one that the file still has was not found near it", err);
}

static int hard_links_note_descriptors(struct link_search *l, pid_t pid, struct err *err)
{
	cleanup_dir DIR *dir = NULL;
	const struct dirent *e;
	char name[32], ref[80];
	int rc = 0, more = 0;

	snprintf(name, sizeof(name), "%d/fd", (int)pid);
	dir = dir_open_at(l->procfd, name);
	while (rc == 0 && dir && (more = dir_next(dir, &e)) > 0) {
		snprintf(ref, sizeof(ref), "%.31s/%.40s", name, e->d_name);
		rc = hard_links_note(l, pid, ref, err);
	}
	return more < 0 ? err_sys(err, errno, "cannot read /proc/%s", name) : rc;
}

static int hard_links_note_mappings(struct link_search *l, pid_t pid, struct err *err)
{
	cleanup_free char *line = NULL;
	cleanup_file FILE *f = NULL;
	unsigned long from, to;
	char ref[80];
	size_t size = 0;
	int fd, rc = 0;

	snprintf(ref, sizeof(ref), "%d/maps", (int)pid);
	fd = openat(l->procfd, ref, O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (rc == 0 && f && getline(&line, &size, f) > 0) {
		if ((!strstr(line, " (deleted)\n") && !strstr(line, "/.nfs")) || sscanf(line, "%lx-%lx", &from, &to) != 2)
			continue;
		snprintf(ref, sizeof(ref), "%d/map_files/%lx-%lx", (int)pid, from, to);
		rc = hard_links_note(l, pid, ref, err);
	}
	return rc;
}

/* The program itself. Only its readability is checked here: it is also mapped, and the mapping gets all other checks.
 */
static int hard_links_note_program(struct link_search *l, pid_t pid, struct err *err)
{
	char ref[32], was[PATH_MAX + 1];
	ssize_t n;

	snprintf(ref, sizeof(ref), "%d/exe", (int)pid);
	if (fstatat(l->procfd, ref, &l->st, 0) || l->st.st_nlink > 0 || hard_links_may_be_saved(l, ref))
		return 0;
	n = readlinkat(l->procfd, ref, was, sizeof(was) - 1);
	was[n > 0 ? n : 0] = '\0';
	return hard_links_refuse_unreadable(pid, ref, was, err);
}

int files_names_find(struct files_names *x, const pid_t *pids, int n, pid_t init, const struct files_opts *o,
		     bool quick, struct err *err)
{
	cleanup_close int procfd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), rootfd = -1;
	struct link_search l = { .names = x, .opts = o, .procfd = procfd, .quick = quick };
	char root[32], ref[80];
	int rc = 0;

	snprintf(root, sizeof(root), "%d/root", (int)init);
	rootfd = procfd < 0 ? -1 : openat(procfd, root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rootfd < 0)
		return err_sys(err, errno, "cannot open /proc/%s, the file system of the job", root);
	l.rootfd = rootfd;
	for (int i = 0; i < n && rc == 0; i++) {
		rc = hard_links_note_descriptors(&l, pids[i], err);
		if (rc == 0)
			rc = hard_links_note_mappings(&l, pids[i], err);
		if (rc == 0)
			rc = hard_links_note_program(&l, pids[i], err);
		snprintf(ref, sizeof(ref), "%d/cwd", (int)pids[i]);
		if (rc == 0)
			rc = hard_links_note(&l, pids[i], ref, err);
	}
	return rc;
}
