/* Fills in the data of files of /dev/shm that is in a memory image, in a restore or an export. The archive of these
 * files (files/tree.c) has created them as holes. */
#ifndef FSCHED_CAPTURE_FILE_DATA_H
#define FSCHED_CAPTURE_FILE_DATA_H

#include <stdbool.h>
#include "base/err.h"
#include "image/image.h"

/* Whether the image has data of files. */
bool mem_file_data_any(const struct mem_image *m);
/* Fills every file whose data the image has, below dirfd; nobody else may change the tree meanwhile. A file that is
 * missing is an error (ENOENT). The times of the files stay. threads < 1: as many as processors. */
int mem_file_data_fill(struct mem_image *m, int dirfd, int threads, struct err *err);

#endif
