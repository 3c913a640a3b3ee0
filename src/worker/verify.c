/* Reading an epoch back after it was written. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "image/image.h"

/* The chunks of memory/ have their own checksums, which the manifest does not repeat. */
static int verify_memory(int epochfd, int threads, struct err *err)
{
	cleanup_close int dirfd = openat(epochfd, "memory", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_mem_image struct mem_image *image = NULL;

	if (dirfd < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open the epoch's memory");
	image = mem_image_open(dirfd, err);
	return image ? mem_image_verify(image, MEM_VERIFY_OWN, threads, err) : -1;
}

int verify_written(struct worker *w, int epochfd, struct err *err)
{
	struct manifest m = { 0 };
	int rc;

	forget_pages_below(epochfd);
	rc = manifest_verify(epochfd, &m, w->req.sign, w->conf.munge_socket, err);
	if (!rc && m.memory.ours)
		rc = verify_memory(epochfd, (int)w->conf.threads, err);
	manifest_free(&m);
	return rc ? err_wrap(err, "the epoch was written, but reads back differently") : 0;
}
