/* Reads of the files of a memory image. */
#include "image/image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"

#define FILE_MAX (UINT64_C(16) << 30) /* "image" and "hashes" of a memory of a few terabytes */

int mem_read_file(int dirfd, const char *name, uint8_t **buf, size_t *len, struct err *err)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	*buf = NULL;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot read memory/%s", name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX)
		return err_set(err, EBADMSG, "memory/%s is not a file of a memory image", name);
	*len = (size_t)st.st_size;
	*buf = malloc(*len + 1);
	if (!*buf)
		return err_sys(err, ENOMEM, "cannot read memory/%s", name);
	if (pread_all(fd, *buf, *len, 0) < 0) {
		err_sys(err, errno, "cannot read memory/%s", name);
		free(*buf);
		*buf = NULL;
		return -1;
	}
	return 0;
}
