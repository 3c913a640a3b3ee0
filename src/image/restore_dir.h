/* A directory of images from which criu restores, out of an epoch whose memory is ours. */
#ifndef FSCHED_IMAGE_RESTORE_DIR_H
#define FSCHED_IMAGE_RESTORE_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "image/fork_family.h"
#include "image/image.h"

/* Fills the empty directory dirfd with links to (on another file system: copies of) the images in criufd.
 * token NULL: with all memory, plain images of criu's. Otherwise without what is in m, to be filled in before the
 * processes run; of shared memory criu then restores a mark with this token at its beginning and nothing else
 * (capture/shared.h). f: pages of m that criu restores in any case; they are there once, in the parent images of those
 * that have them too. NULL: there are none, and no image has a parent. m may be NULL if criu has written all of it.
 * threads < 1: as many as processors. */
int mem_images_make(struct mem_image *m, int criufd, int dirfd, const uint8_t *token, const struct mem_family *f,
		    int threads, struct err *err);

#endif
