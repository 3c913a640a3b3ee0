/* What a job's owner, who is not root, reads of its directory: the copies that owner_copy.c makes. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/util.h"
#include "store/store_internal.h"

/* sub: the directory with the copies, or "." in a job's directory that an older version made: there the owner may read
 * the originals, as a member of the job's group. */
static int owner_view_load(int jobfd, const char *path, const char *sub, struct job_record *r, struct err *err)
{
	cleanup_free char *dir = xasprintf("%s/%s", path, sub);
	cleanup_close int fd = openat(jobfd, sub, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open directory %s", dir);
	return record_load(fd, dir, r, err);
}

static int owner_view_denied(int jobfd, const char *path, struct err *err)
{
	struct stat st;
	bool copies = fstat(jobfd, &st) == 0 && (st.st_mode & S_IXOTH);

	return err_set(err, EACCES, "only root%s may read %s", copies ? " and the job's owner" : "", path);
}

int store_load_copy(const char *base, uint32_t job_id, struct job_record *r, char log[4096], struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%u", base, job_id);
	cleanup_close int jobfd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const char *sub = OWNER_COPIES;
	struct err why;
	int rc;

	if (jobfd < 0)
		return err_sys(err, errno, "cannot open directory %s", path);
	rc = owner_view_load(jobfd, path, sub, r, &why);
	if (rc < 0 && why.num == ENOENT) {
		sub = ".";
		rc = owner_view_load(jobfd, path, sub, r, &why);
	}
	if (rc < 0)
		return why.num == EACCES ? owner_view_denied(jobfd, path, err) : err_set(err, why.num, "%s", why.text);
	if (log)
		snprintf(log, 4096, "%s/%s%scheckpoint.log", path, *sub == '.' ? "" : sub, *sub == '.' ? "" : "/");
	return 0;
}
