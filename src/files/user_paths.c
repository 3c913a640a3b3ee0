/* Finds a file of the job by its path, for a process with the rights of the job's user.
 *
 * The kernel wrote the path, without symbolic links. Later it may have some, for example after a file system has moved.
 * Those of root and of the job's user are followed. One of another user is not: he has put it in place of a directory
 * of his in which the job wrote, and chooses to which file of the job's user with the same name it leads. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/user_rights.h"
#include "base/util.h"

#define LINKS_MAX 40 /* as the kernel's */

struct user_walk {
	int rootfd;          /* absolute links begin here */
	int fd;              /* of the directory that has been reached */
	char rest[PATH_MAX]; /* the components that follow */
	int links;
	uid_t uid;
};

static int user_walk_root(const struct user_walk *w)
{
	return openat(w->rootfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Puts the target of the link before the rest of the path. */
static int user_walk_follow(struct user_walk *w, int link, const struct stat *st)
{
	char target[PATH_MAX], whole[2 * PATH_MAX];
	ssize_t n;

	if ((st->st_uid != 0 && st->st_uid != w->uid) || ++w->links > LINKS_MAX) {
		errno = ELOOP;
		return -1;
	}
	n = readlinkat(link, "", target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	target[n] = '\0';
	if (snprintf(whole, sizeof(whole), "%s/%s", target, w->rest) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(w->rest, whole, strlen(whole) + 1);
	if (target[0] != '/')
		return 0;
	close(w->fd);
	w->fd = user_walk_root(w);
	return w->fd < 0 ? -1 : 0;
}

/* Goes one component further. 1: there was none. */
static int user_walk_step(struct user_walk *w)
{
	cleanup_close int next = -1;
	char name[NAME_MAX + 1];
	const char *from = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(from, "/");
	struct stat st;

	if (!n)
		return 1;
	if (n > NAME_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(name, from, n);
	name[n] = '\0';
	memmove(w->rest, from + n, strlen(from + n) + 1);
	next = openat(w->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (next < 0 || fstat(next, &st) < 0)
		return -1;
	if (S_ISLNK(st.st_mode))
		return user_walk_follow(w, next, &st);
	close(w->fd);
	w->fd = steal_fd(&next);
	return 0;
}

static int open_without_links(int rootfd, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_PATH | O_CLOEXEC),
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS };

	return (int)syscall(SYS_openat2, rootfd, path, &how, sizeof(how));
}

/* Walks from rootfd, of which it takes a copy, along the directories of w->rest. */
static int user_walk(struct user_walk *w, int rootfd)
{
	int rc, saved;

	w->rootfd = rootfd;
	w->fd = user_walk_root(w);
	if (w->fd < 0)
		return -1;
	while ((rc = user_walk_step(w)) == 0)
		;
	if (rc > 0)
		return w->fd;
	saved = errno;
	if (w->fd >= 0)
		close(w->fd);
	errno = saved;
	return -1;
}

int files_open_dir(int rootfd, const char *path, uid_t uid, const char **name)
{
	cleanup_close int own = rootfd < 0 ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	const char *slash = strrchr(path, '/');
	struct user_walk w = { .uid = uid };
	int fd;

	if (!slash || (size_t)(slash - path) + 1 >= sizeof(w.rest)) {
		errno = slash ? ENAMETOOLONG : EINVAL;
		return -1;
	}
	*name = slash + 1;
	snprintf(w.rest, sizeof(w.rest), "/%.*s", (int)(slash - path), path);
	fd = open_without_links(rootfd < 0 ? own : rootfd, w.rest, O_DIRECTORY);
	if (fd >= 0 || (errno != ELOOP && errno != ENOSYS)) /* ENOSYS: before Linux 5.6 */
		return fd;
	return user_walk(&w, rootfd < 0 ? own : rootfd);
}

int open_path_of(int rootfd, const char *path, uid_t uid)
{
	cleanup_close int dir = -1;
	const char *name;
	int fd = rootfd < 0 ? -1 : open_without_links(rootfd, path, O_NOFOLLOW);

	if (fd >= 0 || (rootfd >= 0 && errno != ELOOP && errno != ENOSYS))
		return fd;
	dir = files_open_dir(rootfd, path, uid, &name);
	return dir < 0 ? -1 : openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

int stat_for_job(int dirfd, const char *name, const struct files_cred *cred, struct stat *st)
{
	int rc = fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
	struct user_rights own;

	if (rc == 0 || errno != EACCES)
		return rc;
	if (user_rights_take(&own, cred->uid, cred->gid, cred->groups, cred->n_groups, NULL) < 0) {
		errno = EACCES;
		return -1;
	}
	rc = fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
	user_rights_return(&own);
	return rc;
}

const char *open_path_error(int error)
{
	return error == ELOOP ? "a symbolic link of another user is on the way to it" : strerror(error);
}
