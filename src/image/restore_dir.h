/* Makes the directory of images from which criu restores an epoch whose memory is in a memory image. */
#ifndef FSCHED_IMAGE_RESTORE_DIR_H
#define FSCHED_IMAGE_RESTORE_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "image/fork_family.h"
#include "image/image.h"

/* Fills the empty directory dirfd from the images in criufd: with hard links, or on another file system with copies,
 * and with new images for the memory.
 *
 * m        the epoch's memory image; NULL if criu has written all memory itself
 * token    NULL: the new images contain all memory, so that they are plain images of criu's. Otherwise they lack the
 *          pages of m, which the caller fills in before the processes run. For a shared memory object criu then
 * restores nothing but a mark with this token at its beginning (capture/shared.h finds it). f        pages of m that
 * criu restores in any case. They are written once; the spaces that share them get a parent image. NULL: there are
 * none, and no image has a parent. threads  < 1: as many as processors
 *
 * -1 with err; EBADMSG: the memory image lacks pages that criu's list names. Not synced. */
int mem_restore_dir_make(struct mem_image *m, int criufd, int dirfd, const uint8_t *token,
			 const struct mem_fork_family *f, int threads, struct err *err);
/* The same with all memory (token and f NULL), for somebody who may change the files: none is a link to one of the
 * epoch.
 */
int mem_restore_dir_export(struct mem_image *m, int criufd, int dirfd, int threads, struct err *err);

#endif
