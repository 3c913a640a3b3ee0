#include "base/dir_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/dir.h"
#include "base/util.h"

#define FORGET_DEPTH_MAX 64

/* Opens a directory that is no symbolic link and no mount point. RESOLVE_NO_XDEV (Linux 5.6) also detects a bind mount
 * of the same file system. Older kernels detect a mount point only by another device number. */
static int open_subdir(int dirfd, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV,
	};
	cleanup_close int fd = -1;
	struct stat parent, child;

	fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	if (fd >= 0 || errno != ENOSYS)
		return steal_fd(&fd);
	fd = openat(dirfd, name, (int)how.flags);
	if (fd < 0 || fstat(fd, &child) < 0 || fstatat(dirfd, ".", &parent, 0) < 0)
		return -1;
	if (child.st_dev != parent.st_dev) {
		errno = EXDEV;
		return -1;
	}
	return steal_fd(&fd);
}

/* A user can nest directories deeper than this process can have descriptors. A directory at this depth is moved to the
 * top of the tree and removed from there. */
#define REMOVE_DEPTH  32
/* Passes over one directory, to which somebody may still add entries. */
#define REMOVE_ROUNDS 20000

struct removal {
	int topfd;
	uint64_t counter; /* for the names of what is moved to the top */
	int64_t until;    /* now_us() at which it gives up */
	int error;        /* first errno */
};

static int remove_dir(struct removal *r, int dirfd, const char *name, int depth);

static int move_to_top(struct removal *r, int dirfd, const char *name)
{
	for (int tries = 0; tries < 1000; tries++) {
		char up[40];

		snprintf(up, sizeof(up), ".removed-%llu", (unsigned long long)r->counter++);
		if (renameat(dirfd, name, r->topfd, up) == 0)
			return 0;
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			return -1;
	}
	return -1;
}

static int remove_entry(struct removal *r, int dirfd, const char *name, int depth)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -1;
	if (depth >= REMOVE_DEPTH)
		return move_to_top(r, dirfd, name);
	return remove_dir(r, dirfd, name, depth + 1);
}

/* Makes one pass over the directory. Returns the number of entries removed, -1 if it cannot be read. */
static long remove_pass(struct removal *r, int fd, int depth)
{
	cleanup_dir DIR *dir = dir_open_at(fd, ".");
	const struct dirent *de;
	long removed = 0;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		if (remove_entry(r, fd, de->d_name, depth) == 0)
			removed++;
		else if (!r->error)
			r->error = errno;
		if (now_us() >= r->until) {
			errno = ETIME;
			return -1;
		}
	}
	return more < 0 ? -1 : removed;
}

static int remove_dir(struct removal *r, int dirfd, const char *name, int depth)
{
	cleanup_close int fd = open_subdir(dirfd, name);

	if (fd < 0)
		return -1;
	if (depth == 0)
		r->topfd = fd;
	for (int round = 0; round < REMOVE_ROUNDS; round++) {
		long removed = remove_pass(r, fd, depth);

		if (removed < 0)
			return -1;
		if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if ((errno != ENOTEMPTY && errno != EEXIST) || removed == 0)
			return -1;
	}
	errno = ENOTEMPTY;
	return -1;
}

int remove_tree_until(int dirfd, const char *name, int64_t until)
{
	struct removal r = { .topfd = -1, .until = until };
	int saved;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (remove_dir(&r, dirfd, name, 0) == 0)
		return 0;
	saved = errno;
	if (saved == ENOENT)
		return 0;
	/* The first error says more than "directory not empty". */
	errno = r.error && (saved == ENOTEMPTY || saved == EEXIST) ? r.error : saved;
	return -1;
}

int remove_tree_at(int dirfd, const char *name)
{
	return remove_tree_until(dirfd, name, INT64_MAX);
}

/* Makes a component or, if it exists, opens it. A new one gets exactly mode. */
static int enter_component(int dirfd, const char *name, mode_t mode)
{
	cleanup_close int fd = -1;

	if (mkdirat(dirfd, name, mode & 0700) < 0) {
		if (errno != EEXIST && errno != EROFS && errno != EACCES && errno != EPERM)
			return -1;
		return openat(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return -1;
	return steal_fd(&fd);
}

int mkdir_parents(const char *path, mode_t mode)
{
	cleanup_free char *copy = xstrdup(path);
	cleanup_close int fd = -1;
	char *save = NULL;

	fd = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		int next = enter_component(fd, part, mode);

		if (next < 0)
			return -1;
		close(fd);
		fd = next;
	}
	return 0;
}

/* More levels than any epoch has. It limits the use of descriptors and stack. */
#define SIZE_DEPTH 128

static int64_t size_of_dir(int parent, const char *name, int depth)
{
	cleanup_dir DIR *dir = dir_open_at(parent, name);
	const struct dirent *de;
	int64_t sum = 0;
	int more = -1;

	while (dir && (more = dir_next(dir, &de)) > 0) {
		struct stat st;

		if (fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode)) {
			sum += (int64_t)st.st_blocks * 512;
		} else if (S_ISDIR(st.st_mode) && depth < SIZE_DEPTH) {
			int64_t below = size_of_dir(dirfd(dir), de->d_name, depth + 1);

			sum += below > 0 ? below : 0;
		}
	}
	return more < 0 ? -1 : sum;
}

int64_t tree_size_at(int dirfd, const char *name)
{
	return size_of_dir(dirfd, name, 0);
}

static void forget_pages_of(int dirfd, int depth)
{
	cleanup_dir DIR *d = dir_open_at(dirfd, ".");
	const struct dirent *e;
	struct stat st;

	while (d && dir_next(d, &e) > 0) {
		cleanup_close int fd = -1;

		fd = openat(dirfd, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st))
			continue;
		if (S_ISDIR(st.st_mode) && depth < FORGET_DEPTH_MAX)
			forget_pages_of(fd, depth + 1);
		else if (S_ISREG(st.st_mode))
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
}

void forget_pages_below(int dirfd)
{
	forget_pages_of(dirfd, 0);
}
