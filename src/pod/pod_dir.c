/* The node-local directory of a pod. */
#include "pod/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir_tree.h"
#include "base/text.h"
#include "base/util.h"

/* Opens the directory name below dirfd and sets its mode; makes it if it is missing. It must belong to the caller,
 * root. Returns a descriptor or -1. */
static int pod_dir_own(int dirfd, const char *name, const char *shown, mode_t mode, struct err *err)
{
	cleanup_close int fd = -1;
	struct stat st;

	if (mkdirat(dirfd, name, 0700) && errno != EEXIST)
		return err_sys(err, errno, "cannot make the pod's directory %s", shown);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return err_sys(err, errno, "cannot open the pod's directory %s", shown);
	if (st.st_uid != geteuid())
		return err_set(err, EPERM,
			       "the pod's directory %s belongs to uid %u instead of root: another user made it; remove it",
			       shown, st.st_uid);
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode))
		return err_sys(err, errno, "cannot set the mode of the pod's directory %s", shown);
	return steal_fd(&fd);
}

/* Refuses a parent in which another user could rename directories, and so replace the pod's directory. */
static int pod_dir_check_parent(const char *parent, struct err *err)
{
	struct stat st;

	if (stat(parent, &st))
		return err_sys(err, errno, "cannot examine %s", parent);
	if (st.st_uid != geteuid() || ((st.st_mode & 022) && !(st.st_mode & S_ISVTX)))
		return err_set(err, EPERM,
			       "%s, in which the pod's directory is to be made, must belong to root and be writable by root alone "
			       "(PodDir in fsched.conf)",
			       parent);
	return 0;
}

int pod_prepare(const struct pod_spec *spec, struct err *err)
{
	cleanup_close int dir = -1;
	cleanup_close int tmp = -1;
	char parent[sizeof(spec->dir)], shown[sizeof(spec->dir) + 8];
	char *slash;

	if (spec->dir[0] != '/')
		return err_set(err, EINVAL, "the pod's directory \"%s\" is not an absolute path", spec->dir);
	snprintf(parent, sizeof(parent), "%s", spec->dir);
	slash = strrchr(parent, '/');
	slash[slash == parent] = '\0';
	if (mkdir_parents(parent, 0755))
		return err_sys(err, errno, "cannot make %s for the pod", parent);
	if (pod_dir_check_parent(parent, err))
		return -1;
	dir = pod_dir_own(AT_FDCWD, spec->dir, spec->dir, 0700, err);
	if (dir < 0)
		return -1;
	snprintf(shown, sizeof(shown), "%s/tmp", spec->dir);
	tmp = pod_dir_own(dir, "tmp", shown, 01777, err);
	return tmp < 0 ? -1 : 0;
}

/* Removes empty, "." and ".." components in place, by the text alone. */
static void pod_dir_normalize(char *path)
{
	char *in = path, *out = path, *end;

	while (*in) {
		while (*in == '/')
			in++;
		end = in + strcspn(in, "/");
		if (end - in == 2 && in[0] == '.' && in[1] == '.') {
			while (out > path && *--out != '/')
				;
		} else if (end > in && !(end - in == 1 && in[0] == '.')) {
			*out++ = '/';
			memmove(out, in, (size_t)(end - in));
			out += end - in;
		}
		in = end;
	}
	*out = '\0';
}

/* True if the path itself or the file to which it resolves is below /tmp. For a file that does not exist yet its
 * nearest existing directory is resolved. */
static bool hidden_by_tmp(const char *path, const char *tmp)
{
	char text[PATH_MAX], real[PATH_MAX];
	char *slash;

	if (path[0] != '/' || snprintf(text, sizeof(text), "%s", path) >= (int)sizeof(text))
		return false;
	while (!realpath(text, real)) {
		slash = strrchr(text, '/');
		if (!slash || slash == text) {
			real[0] = '\0';
			break;
		}
		*slash = '\0';
	}
	snprintf(text, sizeof(text), "%s", path);
	pod_dir_normalize(text);
	return path_is_within(text, "/tmp") || path_is_within(real, "/tmp") || path_is_within(real, tmp);
}

bool pod_tmp_conflict(const char *const paths[])
{
	char tmp[PATH_MAX];

	if (!realpath("/tmp", tmp))
		strcpy(tmp, "/tmp");
	for (; *paths; paths++)
		if (hidden_by_tmp(*paths, tmp))
			return true;
	return false;
}
