/* Deleted files that are still open and that a restore could not make again where they were: the job's user may not
 * write in the directory (a program that an upgrade has replaced), or the file is not his. criu saves their content (it
 * calls them ghosts) and makes them anew under the name that it has seen; it is given one in the pod's own /dev/shm. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/user_rights.h"
#include "base/util.h"

#define PLACE "/dev/shm/.deleted"

static bool has_group(const struct files_cred *c, gid_t gid)
{
	bool found = gid == c->gid;

	for (int i = 0; i < c->n_groups && !found; i++)
		found = c->groups[i] == gid;
	return found;
}

/* The nearest directory above the file that is still there, in which criu makes it. False: it is not on the file's file
 * system, so the file never had a name (memory). */
static bool nearest_dir(int rootfd, char *path, const struct stat *file)
{
	struct stat st;
	char *slash;

	do {
		slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = '\0';
	} while (fstatat(rootfd, *path ? path + 1 : ".", &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) && *path);
	return st.st_dev == file->st_dev;
}

/* Not glibc's: where the kernel is asked for the real user, or glibc itself calculates, what the file system sees does
 * not count. */
static bool may_write(int rootfd, const char *dir, const struct files_cred *cred)
{
	struct user_rights own;
	bool may;

	if (user_rights_take(&own, cred->uid, cred->gid, cred->groups, cred->n_groups, NULL) < 0)
		return true;
	may = syscall(SYS_faccessat2, rootfd, *dir ? dir + 1 : ".", W_OK | X_OK, AT_EACCESS) == 0;
	user_rights_return(&own);
	return may;
}

char *ghost_place(int rootfd, const char *was, const struct stat *st, const struct files_opts *o)
{
	cleanup_free char *dir = xstrdup(was);

	if ((!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) || path_is_packed(was, o->private_tmp) ||
	    !nearest_dir(rootfd, dir, st))
		return NULL;
	if (st->st_uid == o->cred.uid && has_group(&o->cred, st->st_gid) && may_write(rootfd, dir, &o->cred))
		return NULL;
	/* criu makes a directory for the name of a file, but not for that of a directory. */
	return xasprintf(PLACE ".%jx.%jx%c%.200s", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino,
			 S_ISDIR(st->st_mode) ? '.' : '/', strrchr(was, '/') + 1);
}
