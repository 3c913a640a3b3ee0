#include "base/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"

DIR *dir_open_at(int dirfd, const char *name)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d)
		steal_fd(&fd);
	return d;
}

int dir_next(DIR *d, const struct dirent **e)
{
	do {
		errno = 0;
		*e = readdir(d);
		if (!*e)
			return errno ? -1 : 0;
	} while (!strcmp((*e)->d_name, ".") || !strcmp((*e)->d_name, ".."));
	return 1;
}
