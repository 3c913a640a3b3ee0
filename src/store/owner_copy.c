/* What a job's owner may know of its directory is in files of his own there. Root makes them and never reads them:
 * their owner can change them, and sees what he has written until they are replaced. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "base/io.h"
#include "store/store_internal.h"

#define COPIES   "owner"
#define LOG_TAIL 65536 /* bytes of checkpoint.log, which grows with each event */

/* ---- root writes -------------------------------------------------------- */

static int open_copies(const struct store *s, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/" COPIES, s->path);
	struct err why;
	int fd = store_open_dir(s->dirfd, COPIES, path, &why);

	if (fd >= 0)
		return fd;
	if (why.num != ENOENT)
		return err_set(err, why.num, "%s", why.text);
	if (store_make_dir(s->dirfd, COPIES, path, STORE_DIR_MODE, err) < 0)
		return -1;
	return store_open_dir(s->dirfd, COPIES, path, err);
}

int owner_copy_record(const struct store *s, uid_t owner, const char *text, struct err *err)
{
	cleanup_close int dirfd = -1;

	if (owner == 0)
		return 0;
	dirfd = open_copies(s, err);
	if (dirfd < 0)
		return -1;
	if (write_file_for(dirfd, "job.json", owner, true, text, strlen(text)) < 0)
		return err_sys(err, errno, "cannot write %s/" COPIES "/job.json", s->path);
	return 0;
}

/* The last lines of the log, whole ones, and where they end. */
static ssize_t read_tail(int logfd, char *buf, off_t *end)
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
	dirfd = open_copies(s, NULL);
	if (dirfd < 0)
		return;
	buf = xmalloc(LOG_TAIL);
	/* Another node may have written a line meanwhile, and been faster with its copy. */
	for (int tries = 0; tries < 3; tries++) {
		n = read_tail(logfd, buf, &end);
		if (n < 0 || write_file_for(dirfd, "checkpoint.log", owner, false, buf, (size_t)n) < 0)
			return;
		if (fstat(logfd, &st) < 0 || st.st_size <= end)
			return;
	}
}

/* ---- the owner reads ---------------------------------------------------- */

/* In a directory that an older version made the owner reads what root reads, as a member of the job's group. */
static int load_from(int jobfd, const char *path, const char *sub, struct job_record *r, struct err *err)
{
	cleanup_free char *dir = xasprintf("%s/%s", path, sub);
	cleanup_close int fd = openat(jobfd, sub, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open directory %s", dir);
	return record_load(fd, dir, r, err);
}

static int denied(int jobfd, const char *path, struct err *err)
{
	struct stat st;
	bool copies = fstat(jobfd, &st) == 0 && (st.st_mode & S_IXOTH);

	return err_set(err, EACCES, "only root%s may read %s", copies ? " and the job's owner" : "", path);
}

int store_load_copy(const char *base, uint32_t job_id, struct job_record *r, char log[4096], struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%u", base, job_id);
	cleanup_close int jobfd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const char *sub = COPIES;
	struct err why;
	int rc;

	if (jobfd < 0)
		return err_sys(err, errno, "cannot open directory %s", path);
	rc = load_from(jobfd, path, sub, r, &why);
	if (rc < 0 && why.num == ENOENT) {
		sub = ".";
		rc = load_from(jobfd, path, sub, r, &why);
	}
	if (rc < 0)
		return why.num == EACCES ? denied(jobfd, path, err) : err_set(err, why.num, "%s", why.text);
	if (log)
		snprintf(log, 4096, "%s/%s%scheckpoint.log", path, *sub == '.' ? "" : sub, *sub == '.' ? "" : "/");
	return 0;
}
