/* Files that are opened for reading once more, by a descriptor that was opened with O_PATH. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/user_rights.h"

int file_reopen(int pathfd, int flags)
{
	char link[40];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", pathfd);
	/* O_NONBLOCK: otherwise a lease held by a frozen task would block this open() for the kernel's
	 * lease-break-time. */
	return open(link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
}

int reopen_as_user(int pathfd, const struct files_cred *cred)
{
	struct user_rights own;
	struct err why;
	int fd;

	if (user_rights_take(&own, cred->uid, cred->gid, cred->groups, cred->n_groups, &why) < 0) {
		errno = EPERM;
		return -1;
	}
	fd = file_reopen(pathfd, 0);
	user_rights_return(&own);
	return fd;
}
