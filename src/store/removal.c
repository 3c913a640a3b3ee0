/* A job's owner may ask for the removal of all that is kept of his job. Root's processes serve a job only while it
 * runs, so the request has to stay on disk until one comes by, `fsched prune --requested`.
 *
 * It is the mode of the owner's copy of the record. He can change that, and nobody else but root: the directory of the
 * copies is root's, so nobody can put another file in its place. Root reads neither the file nor anything else of the
 * owner's. A job that starts again makes the copy anew, which withdraws the request. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/util.h"
#include "store/store_internal.h"

#define ASKED 0500 /* never by chance: nobody executes a record */

int store_ask_removal(const char *base, uint32_t job_id, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%u/" OWNER_COPIES "/job.json", base, job_id);

	return chmod(path, ASKED) ? err_sys(err, errno, "cannot change the mode of %s", path) : 0;
}

bool store_removal_asked(const char *base, const char *name, uid_t owner)
{
	cleanup_free char *path = xasprintf("%s/%s", base, name);
	cleanup_close int jobfd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), dirfd = -1;
	struct stat dir, copy;

	if (jobfd < 0)
		return false;
	dirfd = openat(jobfd, OWNER_COPIES, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return dirfd >= 0 && fstat(dirfd, &dir) == 0 && dir.st_uid == 0 && !(dir.st_mode & (S_IWGRP | S_IWOTH)) &&
	       fstatat(dirfd, "job.json", &copy, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(copy.st_mode) &&
	       copy.st_uid == owner && (copy.st_mode & 07777) == ASKED;
}
