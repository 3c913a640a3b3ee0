/* Copies of a job's files and log for the job's owner, in files that belong to him. Root writes them and never reads
 * them, because their owner can change them. owner_view.c reads them. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "base/io.h"
#include "base/json.h"
#include "store/store_internal.h"

#define LOG_TAIL 65536 /* bytes of checkpoint.log, which grows with each event */

static int owner_copy_open_dir(const struct store *s, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/" OWNER_COPIES, s->path);
	struct err why;
	int fd = store_open_dir(s->dirfd, OWNER_COPIES, path, &why);

	if (fd >= 0)
		return fd;
	if (why.num != ENOENT)
		return err_set(err, why.num, "%s", why.text);
	if (store_make_dir(s->dirfd, OWNER_COPIES, path, STORE_DIR_MODE, err) < 0)
		return -1;
	return store_open_dir(s->dirfd, OWNER_COPIES, path, err);
}

int owner_copy_write(const struct store *s, uid_t owner, const char *name, const char *text, struct err *err)
{
	cleanup_close int dirfd = -1;

	if (owner == 0)
		return 0;
	dirfd = owner_copy_open_dir(s, err);
	if (dirfd < 0)
		return -1;
	if (write_file_for(dirfd, name, owner, true, text, strlen(text)) < 0)
		return err_sys(err, errno, "cannot write %s/" OWNER_COPIES "/%s", s->path, name);
	return 0;
}

int job_file_save(const struct store *s, uid_t owner, const char *name, const char *text, struct err *err)
{
	if (!text)
		return err_set(err, EINVAL, "%s/%s cannot be made", s->path, name);
	if (write_file_atomic(s->dirfd, name, 0600, 0, text, strlen(text)) < 0)
		return err_sys(err, errno, "cannot write %s/%s", s->path, name);
	return owner_copy_write(s, owner, name, text, err);
}

json_t *job_file_load(const char *path, bool copy, const char *name, size_t max, struct err *err)
{
	cleanup_free char *dir = xasprintf("%s%s", path, copy ? "/" OWNER_COPIES : "");
	cleanup_close int fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		err_sys(err, errno, "cannot open directory %s", dir);
		return NULL;
	}
	return json_read_at(fd, name, max, name, err);
}

/* The last lines of the log, whole ones, and where they end. */
static ssize_t owner_copy_read_tail(int logfd, char *buf, off_t *end)
{
	struct stat st;
	off_t from;
	ssize_t n;
	char *nl;

	if (fstat(logfd, &st) < 0)
		return -1;
	from = st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0;
	n = pread(logfd, buf, LOG_TAIL, from);
	if (n < 0)
		return -1;
	*end = from + n;
	nl = from ? memchr(buf, '\n', (size_t)n) : NULL;
	if (!nl)
		return n;
	n -= nl + 1 - buf;
	memmove(buf, nl + 1, (size_t)n);
	return n;
}

void owner_copy_log(const struct store *s, uid_t owner, int logfd)
{
	cleanup_free char *buf = NULL;
	cleanup_close int dirfd = -1;
	off_t end = 0;
	struct stat st;
	ssize_t n;

	if (owner == 0)
		return;
	dirfd = owner_copy_open_dir(s, NULL);
	if (dirfd < 0)
		return;
	buf = xmalloc(LOG_TAIL);
	/* Another node may have written a line meanwhile, and been faster with its copy. */
	for (int tries = 0; tries < 3; tries++) {
		n = owner_copy_read_tail(logfd, buf, &end);
		if (n < 0 || write_file_for(dirfd, "checkpoint.log", owner, false, buf, (size_t)n) < 0)
			return;
		if (fstat(logfd, &st) < 0 || st.st_size <= end)
			return;
	}
}
