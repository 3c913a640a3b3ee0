/* Who keeps which pages of a process: criu's images or ours.
 *
 * criu has written a list of pages (pagemap-PID.img) with nothing behind most of them (PE_PARENT). What our restore can
 * fill in, large pieces of plain anonymous memory, becomes part of the memory image; the rest goes into criu's own
 * images: memory of files, stacks, small pieces, and the pages around the words that the kernel itself writes for a
 * thread (rseq), which must be there before. So criu/ alone restores a process that lacks large areas only. */
#ifndef FSCHED_CAPTURE_SPLIT_H
#define FSCHED_CAPTURE_SPLIT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "criu/criu_pagemap.h"
#include "image/image.h"

/* id of every range: the pid in the pod. Ascending, each within one mapping. */
struct mem_split {
	pid_t inner, host;
	struct criu_pagemap criu; /* as criu wrote it */
	struct mem_range *kept;
	size_t n_kept;
	struct mem_range *ours;
	size_t n_ours;
	uint64_t kept_pages, our_pages;
};

/* host: the stopped process. fixed: addresses that belong into criu's images, ascending. */
int mem_split_make(struct mem_split *p, int images_fd, pid_t inner, pid_t host, const uint64_t *fixed, size_t n_fixed,
		   struct err *err);
void mem_split_free(struct mem_split *p);

/* Puts the kept pages into criu's images: pages-N.img and pagemap-PID.img are written anew, what is ours still refers
 * to a parent. kept: their bytes, one behind the other. Not synced. */
int mem_split_write_kept(const struct mem_split *p, int images_fd, const void *kept, struct err *err);

#endif
