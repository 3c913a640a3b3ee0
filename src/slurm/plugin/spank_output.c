/* Copies the output of the previous run before a new start truncates it or appends to it. Runs in the script's process
 * as the job's user and with his rights only. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "slurm/plugin/spank_fsched.h"
#include "files/files_internal.h"

#define NAMES_MAX 100 /* copies of one run: the user may have files with such names already */

struct output {
	char path[PATH_MAX];
	char *name;    /* the last component of path */
	int dirfd, fd; /* fd: to read from */
	struct stat st;
};

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Finds the file of descriptor fd by its name, and checks that the name leads to this file. 0; 1: there is nothing to
 * copy; -1 with err. */
static int find_output(int fd, struct output *o, struct err *err)
{
	struct stat named;
	char link[32];
	ssize_t len;

	if (fstat(fd, &o->st) || !S_ISREG(o->st.st_mode) || o->st.st_size == 0 || o->st.st_nlink == 0)
		return 1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, o->path, sizeof(o->path) - 1);
	if (len <= 0)
		return err_sys(err, errno, "cannot read %s", link);
	o->path[len] = '\0';
	o->name = strrchr(o->path, '/');
	if (!o->name)
		return err_set(err, EINVAL, "the job's output has no path");
	*o->name = '\0';
	o->dirfd = open(o->path[0] ? o->path : "/", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	*o->name++ = '/';
	if (o->dirfd < 0)
		return err_sys(err, errno, "cannot open the directory of %s", o->path);
	o->fd = openat(o->dirfd, o->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (o->fd < 0)
		return err_sys(err, errno, "cannot read %s", o->path);
	if (fstat(o->fd, &named) || !same_inode(&named, &o->st))
		return err_set(err, ESTALE, "%s is another file now", o->path);
	return 0;
}

/* Creates NAME.run-N, or NAME.run-N.2 and so on; never opens an existing file. Returns a descriptor or -1. */
static int create_kept_output(const struct output *o, unsigned run, char name[NAME_MAX + 1], struct err *err)
{
	for (int i = 1; i <= NAMES_MAX; i++) {
		int n = snprintf(name, NAME_MAX + 1, i > 1 ? "%s.run-%u.%d" : "%s.run-%u", o->name, run, i);
		int fd;

		if (n > NAME_MAX)
			return err_set(err, ENAMETOOLONG, "the name of %s is too long to add \".run-%u\" to it",
				       o->path, run);
		fd = openat(o->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd >= 0 ? fd : err_sys(err, errno, "cannot make %s.run-%u", o->path, run);
	}
	return err_set(err, EEXIST, "%s.run-%u to %s.run-%u.%d are there already", o->path, run, o->path, run, NAMES_MAX);
}

/* Copies one file and appends the name of the copy to list. 0 or -1. */
static int keep_one_output(const struct output *o, unsigned run, char *list, size_t len, struct err *err)
{
	char name[NAME_MAX + 1];
	size_t used = strlen(list);
	cleanup_close int out = create_kept_output(o, run, name, err);
	mode_t mode = o->st.st_mode & 0777;
	bool to_out;

	if (out < 0)
		return -1;
	/* The mode was for another group. */
	if (fchown(out, (uid_t)-1, o->st.st_gid) || file_has_acl(out))
		mode &= ~(mode_t)070 | (mode & 07) << 3;
	if (copy_sparse(o->fd, out, (uint64_t)o->st.st_size, UINT64_MAX, &to_out) || fchmod(out, mode)) {
		err_sys(err, errno, "cannot copy %s to %s", o->path, name);
		unlinkat(o->dirfd, name, 0);
		return -1;
	}
	snprintf(list + used, len - used, "%s%s", used ? ", " : "", name);
	return 0;
}

int keep_output(unsigned run, char *list, size_t len, struct err *err)
{
	struct stat first = { 0 };
	int rc = 0;

	*list = '\0';
	for (int fd = 1; fd <= 2 && rc == 0; fd++) {
		struct output o = { .dirfd = -1, .fd = -1 };
		int found = find_output(fd, &o, err);

		/* most jobs have one file for both */
		if (found == 0 && !(fd == 2 && same_inode(&first, &o.st)))
			rc = keep_one_output(&o, run, list, len, err);
		else if (found < 0)
			rc = -1;
		first = o.st;
		if (o.fd >= 0)
			close(o.fd);
		if (o.dirfd >= 0)
			close(o.dirfd);
	}
	return rc;
}
