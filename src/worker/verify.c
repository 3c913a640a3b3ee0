/* Reading an epoch back. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/clock.h"
#include "base/util.h"
#include "image/image.h"

#define DEPTH_MAX 64

/* Drops the files from the page cache, so that the digests are computed from the disk. The kernel drops clean pages
 * only, so fsync comes first. A file system may ignore the request, which makes the check weaker, not wrong. */
static void forget_pages(int dirfd, int depth)
{
	cleanup_dir DIR *d = dir_open_at(dirfd, ".");
	const struct dirent *e;
	struct stat st;

	while (d && dir_next(d, &e) > 0) {
		cleanup_close int fd = -1;

		fd = openat(dirfd, e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st))
			continue;
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			forget_pages(fd, depth + 1);
		else if (S_ISREG(st.st_mode))
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
}

/* The chunks of memory/ have their own checksums, which the manifest does not repeat. */
static int verify_memory(int epochfd, enum mem_verify what, int threads, struct err *err)
{
	cleanup_close int dirfd = openat(epochfd, "memory", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_mem_image struct mem_image *image = NULL;

	if (dirfd < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open the epoch's memory");
	image = mem_image_open(dirfd, err);
	return image ? mem_image_verify(image, what, threads, err) : -1;
}

int verify_written(struct worker *w, int epochfd, struct err *err)
{
	struct manifest m = { 0 };
	int rc;

	forget_pages(epochfd, 0);
	rc = manifest_verify(epochfd, &m, w->req.sign, w->conf.munge_socket, err);
	if (!rc && m.memory.ours)
		rc = verify_memory(epochfd, MEM_VERIFY_OWN, (int)w->conf.threads, err);
	manifest_free(&m);
	return rc ? err_wrap(err, "the epoch was written, but reads back differently") : 0;
}

int worker_verify(struct worker *w, struct err *err)
{
	cleanup_close int fd = store_open_epoch(&w->store, w->req.epoch, err);
	struct manifest m = { 0 };
	json_t *o;

	if (fd < 0)
		return -1;
	event_phase("verify");
	if (manifest_verify(fd, &m, w->req.sign, w->conf.munge_socket, err))
		return -1;
	if (m.memory.ours && verify_memory(fd, MEM_VERIFY_DEEP, (int)w->conf.threads, err)) {
		manifest_free(&m);
		return -1;
	}
	o = json_pack("{s:b, s:i, s:I, s:I, s:I, s:I, s:O}", "ok", 1, "epoch", (int)w->req.epoch, "bytes",
		      (json_int_t)m.bytes, "frozen_us", (json_int_t)m.frozen_us, "total_us",
		      (json_int_t)(now_us() - w->began), "files", (json_int_t)json_array_size(m.files), "warnings",
		      w->warnings);
	manifest_free(&m);
	event_send("result", o);
	return 0;
}
