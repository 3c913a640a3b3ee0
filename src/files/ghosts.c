/* Deleted files that are still open (criu calls them ghosts) and that a restore could not recreate where they were,
 * because the job's user may not write to the directory (for example, a program that an upgrade has replaced) or
 * because the file is not his. criu saves their content and recreates them under the name that it read at the dump. So
 * criu gets to read a name in the pod's own /dev/shm. */
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

static bool ghost_has_group(const struct files_cred *c, gid_t gid)
{
	bool found = gid == c->gid;

	for (int i = 0; i < c->n_groups && !found; i++)
		found = c->groups[i] == gid;
	return found;
}

/* Shortens path to the nearest directory above the file that still exists; criu recreates the file there. False: that
 * directory is on another file system, so the file never had a name in a directory (memory, such as a memfd). */
static bool ghost_nearest_dir(int rootfd, char *path, const struct stat *file, const struct files_cred *cred)
{
	struct stat st;
	char *slash;

	do {
		slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = '\0';
	} while (stat_for_job(rootfd, *path ? path + 1 : ".", cred, &st) && *path);
	return st.st_dev == file->st_dev;
}

/* Calls faccessat2() itself: glibc's faccessat() may ask the kernel for the real user id, or compute the answer from
 * mode bits, and both ignore the file system user id that user_rights_take() sets. */
static bool ghost_may_write(int rootfd, const char *dir, const struct files_cred *cred)
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

	if ((!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) ||
	    path_is_packed(was, &(struct packed){ o->private_tmp, o->scratch }) ||
	    !ghost_nearest_dir(rootfd, dir, st, &o->cred))
		return NULL;
	if (st->st_uid == o->cred.uid && ghost_has_group(&o->cred, st->st_gid) && ghost_may_write(rootfd, dir, &o->cred))
		return NULL;
	/* criu makes the parent directory of a file, but not that of a directory: a directory gets a name without one.
	 */
	return xasprintf(PLACE ".%jx.%jx%c%.200s", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino,
			 S_ISDIR(st->st_mode) ? '.' : '/', strrchr(was, '/') + 1);
}
