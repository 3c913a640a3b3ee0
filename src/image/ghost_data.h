/* Writes criu's image of a deleted file (ghost-file-N.img) with the data that is in a memory image. */
#ifndef FSCHED_IMAGE_GHOST_DATA_H
#define FSCHED_IMAGE_GHOST_DATA_H

#include <stdint.h>
#include "base/err.h"
#include "image/image.h"

/* images_fd has ghost-file-<number>.img with the attributes of the file and no data. Writes it with the data of space
 * id into out_fd, where it must not exist yet. opts: threads and cancel. -1 with err. Not synced. */
int ghost_data_write(struct mem_image *m, uint64_t id, uint32_t number, int images_fd, int out_fd,
		     const struct mem_read_opts *opts, struct err *err);

#endif
