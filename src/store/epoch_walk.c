#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/dir.h"
#include "base/text.h"
#include "base/util.h"

#define DEPTH_MAX 16 /* levels of directories; an epoch has two */

static int epoch_walk_dir(int dirfd, char *path, size_t len, int depth, const struct epoch_walk *w, struct err *err);

static int epoch_walk_entry(int dirfd, const char *name, char *path, size_t len, int depth, const struct epoch_walk *w,
			    struct err *err)
{
	cleanup_close int sub = -1;
	struct stat st;
	char shown[256];

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(err, errno, "%s", printable(path, shown, sizeof(shown)));
	if (S_ISREG(st.st_mode))
		return w->file ? w->file(w->arg, dirfd, name, path, &st, err) : 0;
	if (!S_ISDIR(st.st_mode) || depth >= DEPTH_MAX)
		return err_set(err, EBADMSG, "\"%s\" does not belong to a checkpoint",
			       printable(path, shown, sizeof(shown)));
	sub = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0)
		return err_sys(err, errno, "%s", printable(path, shown, sizeof(shown)));
	return epoch_walk_dir(sub, path, len, depth + 1, w, err);
}

/* path: the relative path of the directory, len bytes long ("" = the top); it is extended for the entries. */
static int epoch_walk_dir(int fd, char *path, size_t len, int depth, const struct epoch_walk *w, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(fd, ".");
	const struct dirent *de;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		int n;

		n = snprintf(path + len, PATH_MAX - len, "%s%s", len ? "/" : "", de->d_name);
		if (n < 0 || len + (size_t)n >= PATH_MAX)
			return err_set(err, ENAMETOOLONG, "a path of the checkpoint is too long");
		if (epoch_walk_entry(fd, de->d_name, path, len + (size_t)n, depth, w, err) < 0)
			return -1;
		path[len] = '\0';
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read directory %s", len ? path : ".");
	return w->dir ? w->dir(w->arg, fd, len ? path : ".", err) : 0;
}

int epoch_walk(int dirfd, const struct epoch_walk *w, struct err *err)
{
	char path[PATH_MAX] = "";

	return epoch_walk_dir(dirfd, path, 0, 0, w, err);
}
