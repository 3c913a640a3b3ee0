/* A directory of images from which criu restores, out of an epoch whose memory is ours. */
#ifndef FSCHED_MEMORY_IMAGES_H
#define FSCHED_MEMORY_IMAGES_H

#include <stdbool.h>
#include "common/err.h"
#include "memory/image.h"

/* Fills the empty directory dirfd with links to (on another file system: copies of) the images in criufd.
 * whole: with all memory, plain images of criu's. Otherwise without what is in m, to be filled in before the processes run.
 * m may be NULL if criu has written all of it. threads < 1: as many as processors. */
int mem_images_make(struct mem_image *m, int criufd, int dirfd, bool whole, int threads, struct err *err);

#endif
