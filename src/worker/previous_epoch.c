/* The epoch before: the memory that an increment continues, and the copies of files that need not be made again. */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>

#include "base/util.h"

static struct mem_image *previous_open_image(const struct worker *w, unsigned epoch, struct err *err)
{
	cleanup_mem_image struct mem_image *image = NULL;
	cleanup_close int epochfd = store_open_epoch(&w->store, epoch, err), dirfd = -1;

	if (epochfd < 0)
		return NULL;
	dirfd = openat(epochfd, "memory", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0) {
		err_sys(err, errno, "cannot open its memory");
		return NULL;
	}
	image = mem_image_open(dirfd, err);
	/* A missing file is damage. An epoch without memory/ (criu wrote its memory) or without hashes (made before
	 * CRIU_Incremental was set) is not damaged. */
	if (!image && err->num == ENOENT)
		err->num = EBADMSG;
	if (!image || mem_image_load_hashes(image, err))
		return NULL;
	return steal_ptr(&image);
}

static struct mem_image *previous_open(struct worker *w)
{
	struct mem_image *image;
	struct err err = { 0 };
	unsigned epoch;

	if (!w->conf.incremental || w->req.epoch % w->conf.full_every == 0)
		return NULL;
	/* Changes are found by comparing pages, so the previous epoch may even belong to another run. */
	epoch = store_previous_epoch(&w->store, w->req.epoch);
	if (!epoch)
		return NULL;
	if (store_full_wanted(&w->store)) {
		worker_warn(w, "the memory is saved in full, because an epoch was found damaged since the last full one");
		return NULL;
	}
	image = previous_open_image(w, epoch, &err);
	if (!image && err.num != ENOENT)
		worker_warn(w, "the memory is saved in full, because epoch %u cannot be continued: %.500s", epoch,
			    err.text);
	return image;
}

struct mem_image *memory_previous(struct memory_step *s, struct worker *w)
{
	if (!s->previous.searched)
		s->previous = (struct previous_image){ true, previous_open(w) };
	return s->previous.image;
}

void previous_files_open(struct previous_files *p, struct worker *w)
{
	const unsigned previous = store_previous_epoch(&w->store, w->req.epoch);
	cleanup_close int epochfd = previous && !store_full_wanted(&w->store)
					    ? store_open_epoch(&w->store, previous, NULL)
					    : -1;

	*p = (struct previous_files){ .filesfd = -1 };
	if (epochfd < 0 || manifest_load(epochfd, &p->m, NULL))
		return;
	p->filesfd = openat(epochfd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->filesfd < 0)
		previous_files_close(p);
}

void previous_files_close(struct previous_files *p)
{
	manifest_free(&p->m);
	cleanup_closep(&p->filesfd);
	p->filesfd = -1;
}
