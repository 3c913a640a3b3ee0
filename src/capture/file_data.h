/* Files whose data is in a memory image, in a restore or an export: their archive has made them as holes
 * (files/tree.c). */
#ifndef FSCHED_CAPTURE_FILE_DATA_H
#define FSCHED_CAPTURE_FILE_DATA_H

#include <stdbool.h>
#include "base/err.h"
#include "image/image.h"

bool mem_file_data_any(const struct mem_image *m);
/* dirfd: the top of the tree, in which nobody else changes anything. Fills every file that the image has; one that is
 * missing is an error. Their times stay. threads < 1: as many as processors. */
int mem_file_data_fill(struct mem_image *m, int dirfd, int threads, struct err *err);

#endif
