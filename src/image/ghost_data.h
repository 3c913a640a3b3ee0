/* criu's image of a deleted file, made whole: its data is in a memory image. */
#ifndef FSCHED_IMAGE_GHOST_DATA_H
#define FSCHED_IMAGE_GHOST_DATA_H

#include <stdint.h>
#include "base/err.h"
#include "image/image.h"

/* Writes the image to out_fd, where it is not yet, with what m has of the space id. */
int ghost_data_fill(struct mem_image *m, uint64_t id, uint32_t number, int images_fd, int out_fd,
		    const struct mem_read_opts *opts, struct err *err);

#endif
