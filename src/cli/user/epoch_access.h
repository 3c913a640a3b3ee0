/* Epochs that root reads as they are on the disk, of jobs and of pods without Slurm. */
#ifndef FSCHED_CLI_USER_EPOCH_ACCESS_H
#define FSCHED_CLI_USER_EPOCH_ACCESS_H

#include "base/conf.h"
#include "image/image.h"
#include "store/manifest.h"
#include "store/store.h"

/* name: a job id, or the absolute path of a pod's directory. 0: the caller closes the store. -1 with err. */
int epoch_open_store(struct store *s, const struct conf *c, const char *name, struct err *err);
/* Opens the memory of an epoch. *image is NULL if criu has written all of it; else the caller closes it. 0, or -1 with
 * err. */
int epoch_open_memory(int epochfd, const struct manifest *m, struct mem_image **image, struct err *err);

#endif
