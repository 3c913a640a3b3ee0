#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/dir_tree.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "store/store_internal.h"

/* ---- directories ------------------------------------------------------- */

int store_check_dir(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "%s is no directory", path);
	if (st.st_uid != 0)
		return err_set(err, EPERM,
			       "%s belongs to uid %u, not to root, so that a checkpoint in it could be forged: "
			       "chown it to root (on NFS: export it with no_root_squash)",
			       path, (unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(
			err, EPERM,
			"%s is writable by %s (mode %04o), so that a checkpoint in it could be forged: chmod go-w it",
			path, st.st_mode & S_IWOTH ? "everybody" : "its group", (unsigned)(st.st_mode & 07777));
	return 0;
}

int store_open_dir(int dirfd, const char *name, const char *path, struct err *err)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int saved = errno;
	struct stat st;

	if (fd < 0 && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return err_set(err, ELOOP, "%s is a symbolic link: refused, a checkpoint directory must be a real one",
			       path);
	if (fd < 0)
		return err_sys(err, saved, "cannot open directory %s", path);
	if (store_check_dir(fd, path, err) < 0)
		return -1;
	return steal_fd(&fd);
}

static int sync_fd(int fd, const char *path, struct err *err)
{
	if (fsync(fd) < 0 && errno != EINVAL)
		return err_sys(err, errno, "cannot sync directory %s", path);
	return 0;
}

int store_make_dir(int dirfd, const char *name, const char *path, mode_t mode, struct err *err)
{
	cleanup_close int fd = -1;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "cannot make directory %s", path);
	fd = store_open_dir(dirfd, name, path, err);
	if (fd < 0)
		return -1;
	if (fchown(fd, (uid_t)-1, 0) < 0 || fchmod(fd, mode) < 0)
		return err_sys(err, errno, "cannot set group and mode of %s", path);
	return sync_fd(dirfd, path, err);
}

/* Older versions let the job's group read them. */
static int tighten(const struct store *s, const char *name, struct err *err)
{
	struct stat st;

	if (fstatat(s->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s/%s", s->path, name);
	if (S_ISREG(st.st_mode) && (st.st_mode & 077) && fchmodat(s->dirfd, name, 0600, 0) < 0)
		return err_sys(err, errno, "cannot keep others from reading %s/%s", s->path, name);
	return 0;
}

static int open_below(struct store *s, int basefd, const char *name, bool create, struct err *err)
{
	cleanup_free char *epochs = xasprintf("%s/epochs", s->path);

	if (create && store_make_dir(basefd, name, s->path, STORE_DIR_MODE, err) < 0)
		return -1;
	s->dirfd = store_open_dir(basefd, name, s->path, err);
	if (s->dirfd < 0)
		return -1;
	if (create && (tighten(s, "job.json", err) < 0 || tighten(s, "checkpoint.log", err) < 0 ||
		       store_make_dir(s->dirfd, "epochs", epochs, 0700, err) < 0))
		goto fail;
	s->epochsfd = store_open_dir(s->dirfd, "epochs", epochs, err);
	if (s->epochsfd < 0)
		goto fail;
	return 0;
fail:
	store_close(s);
	return -1;
}

/* Symbolic links in the path of the base are followed, because an administrator has configured it. */
static int open_base(const char *base, bool create, struct err *err)
{
	cleanup_close int fd = -1;

	if (*base != '/')
		return err_set(err, EINVAL, "checkpoint directory \"%s\" is not an absolute path", base);
	if (create && mkdir_parents(base, 0755) < 0)
		return err_sys(err, errno, "cannot make checkpoint directory %s", base);
	fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open checkpoint directory %s", base);
	if (store_check_dir(fd, base, err) < 0)
		return -1;
	return steal_fd(&fd);
}

int store_open(struct store *s, const char *base, uint32_t job_id, bool create, struct err *err)
{
	cleanup_close int basefd = -1;
	char name[16];

	s->dirfd = s->epochsfd = -1;
	snprintf(name, sizeof(name), "%u", job_id);
	if (snprintf(s->path, sizeof(s->path), "%s/%s", base, name) >= (int)sizeof(s->path))
		return err_set(err, ENAMETOOLONG, "the path of the checkpoint directory is too long");
	basefd = open_base(base, create, err);
	return basefd < 0 ? -1 : open_below(s, basefd, name, create, err);
}

int store_open_path(struct store *s, const char *path, bool create, struct err *err)
{
	cleanup_free char *base = xstrdup(path);
	cleanup_close int basefd = -1;
	char *slash;

	s->dirfd = s->epochsfd = -1;
	for (size_t n = strlen(base); n > 1 && base[n - 1] == '/'; n--)
		base[n - 1] = '\0';
	slash = strrchr(base, '/');
	if (*base != '/' || slash[1] == '\0' || strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
		return err_set(err, EINVAL, "checkpoint directory \"%s\" is not an absolute path to a directory", path);
	if (snprintf(s->path, sizeof(s->path), "%s", base) >= (int)sizeof(s->path))
		return err_set(err, ENAMETOOLONG, "the path of the checkpoint directory is too long");
	*slash = '\0';
	if (create && mkdir_parents(*base ? base : "/", 0755) < 0)
		return err_sys(err, errno, "cannot make %s", base);
	/* The parent is not checked: it may belong to any user, because only the directory itself holds checkpoints. */
	basefd = open(*base ? base : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (basefd < 0)
		return err_sys(err, errno, "cannot open %s", base);
	return open_below(s, basefd, slash + 1, create, err);
}

void store_close(struct store *s)
{
	if (s->dirfd >= 0)
		close(s->dirfd);
	if (s->epochsfd >= 0)
		close(s->epochsfd);
	s->dirfd = s->epochsfd = -1;
}
