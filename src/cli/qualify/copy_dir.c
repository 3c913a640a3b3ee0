#include "cli/qualify/copy_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define COPY_DEPTH 200
#define COPY_BLOCK (1u << 20)

static int copy_dir_level(struct copy_dir *c, int from, int to, const char *path, unsigned depth, struct err *err);

static int copy_fail(int num, const char *what, const char *path, struct err *err)
{
	char shown[512];

	return err_sys(err, num, "cannot %s %s", what, printable(path, shown, sizeof(shown)));
}

/* With holes where the blocks are zero, so that a sparse file does not fill the disk. */
static int copy_data(int in, int out, uint64_t size)
{
	cleanup_free char *buf = NULL;

	if (size == 0 || ioctl(out, FICLONE, in) == 0)
		return 0;
	buf = xmalloc(COPY_BLOCK);
	for (uint64_t at = 0;;) {
		ssize_t n = pread(in, buf, COPY_BLOCK, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			return ftruncate(out, (off_t)at);
		if ((*buf || memcmp(buf, buf + 1, (size_t)n - 1) != 0) && pwrite_all(out, buf, (size_t)n, at) < 0)
			return -1;
		at += (uint64_t)n;
	}
}

static int copy_times(int fd, const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };

	return futimens(fd, times);
}

static int copy_file(struct copy_dir *c, int from, int to, const char *name, const char *path, struct err *err)
{
	cleanup_close int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), out = -1;
	struct stat st;

	if (in < 0 || fstat(in, &st) < 0)
		return copy_fail(errno, "read", path, err);
	if (!S_ISREG(st.st_mode))
		return copy_fail(ESTALE, "read", path, err);
	if ((uint64_t)st.st_size > c->left)
		return err_set(err, EFBIG, "there is more to copy than --copy-limit allows");
	c->left -= (uint64_t)st.st_size;
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0 || copy_data(in, out, (uint64_t)st.st_size) < 0 || fchmod(out, st.st_mode & 0777) < 0 ||
	    copy_times(out, &st) < 0)
		return copy_fail(errno, "copy", path, err);
	return 0;
}

static int copy_link(int from, int to, const char *name, const char *path, struct err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return copy_fail(errno, "read", path, err);
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? copy_fail(errno, "copy", path, err) : 0;
}

static int copy_subdir(struct copy_dir *c, int from, int to, const char *name, const char *path, unsigned depth,
		       struct err *err)
{
	cleanup_close int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), out = -1;
	struct stat st;

	if (in < 0 || fstat(in, &st) < 0)
		return copy_fail(errno, "read", path, err);
	if (c->skip_ino && st.st_dev == c->skip_dev && st.st_ino == c->skip_ino)
		return 0;
	if (depth >= COPY_DEPTH)
		return copy_fail(EMLINK, "copy", path, err);
	if (mkdirat(to, name, 0700) < 0 || (out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return copy_fail(errno, "copy", path, err);
	if (copy_dir_level(c, in, out, path, depth + 1, err) < 0)
		return -1;
	if (fchmod(out, st.st_mode & 0777) < 0 || copy_times(out, &st) < 0)
		return copy_fail(errno, "copy", path, err);
	return 0;
}

static int copy_entry(struct copy_dir *c, int from, int to, const char *name, const char *path, unsigned depth,
		      struct err *err)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return copy_fail(errno, "read", path, err);
	if (c->entries++ >= COPY_ENTRIES_MAX)
		return err_set(err, EFBIG, "there are more than %d files to copy", COPY_ENTRIES_MAX);
	if (S_ISDIR(st.st_mode))
		return copy_subdir(c, from, to, name, path, depth, err);
	if (S_ISREG(st.st_mode))
		return copy_file(c, from, to, name, path, err);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name, path, err);
	if (S_ISFIFO(st.st_mode))
		return mkfifoat(to, name, st.st_mode & 0777) < 0 ? copy_fail(errno, "copy", path, err) : 0;
	c->skipped++;
	return 0;
}

static bool copy_skips(const struct copy_dir *c, const char *name, unsigned depth)
{
	return depth == 0 && c->skip && strncmp(name, c->skip, strlen(c->skip)) == 0;
}

static int copy_dir_level(struct copy_dir *c, int from, int to, const char *path, unsigned depth, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(from, ".");
	const struct dirent *e;
	int more = -1;

	while (dir && (more = dir_next(dir, &e)) > 0) {
		cleanup_free char *child = xasprintf("%s/%s", path, e->d_name);

		if (!copy_skips(c, e->d_name, depth) && copy_entry(c, from, to, e->d_name, child, depth, err) < 0)
			return -1;
	}
	return more < 0 ? copy_fail(errno, "read", path, err) : 0;
}

int copy_dir(struct copy_dir *c, int fromfd, int tofd, const char *from, struct err *err)
{
	return copy_dir_level(c, fromfd, tofd, from, 0, err);
}
