/* Decides which pages of a process go into criu's images and which into the memory image.
 *
 * criu has written a list of pages (pagemap-PID.img) that refers most of them to a parent image (PE_PARENT), which does
 * not exist. Large pieces of plain anonymous memory, which our restore can fill in, go into the memory image ("ours").
 * All other pages are put into criu's images ("kept"): file mappings, stacks, small pieces, and the pages around the
 * words that the kernel itself writes for a thread (rseq), which must be there before the threads run. So criu's images
 * alone restore a process that lacks nothing but large areas. */
#ifndef FSCHED_CAPTURE_SPLIT_H
#define FSCHED_CAPTURE_SPLIT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "criu/criu_pagemap.h"
#include "image/image.h"

#define MEM_PIECE_MIN 64u /* pages of our smallest piece */

/* The id of all ranges is the pid in the pod. Ranges are ascending, and each lies within one mapping. */
struct mem_split {
	pid_t inner, host;        /* pids in the pod and in our namespace */
	struct criu_pagemap criu; /* criu's list */
	struct mem_range *kept;   /* pages for criu's images; owned */
	size_t n_kept;
	struct mem_range *ours; /* pages for the memory image; owned */
	size_t n_ours;
	uint64_t kept_pages, our_pages; /* sums */
};

/* Reads pagemap-<inner>.img in images_fd and the mappings of the stopped process host. fixed: addresses, ascending,
 * that must be in criu's images together with 16 pages on either side. -1 with err. */
int mem_split_make(struct mem_split *p, int images_fd, pid_t inner, pid_t host, const uint64_t *fixed, size_t n_fixed,
		   struct err *err);
void mem_split_free(struct mem_split *p);

/* Rewrites pages-N.img and pagemap-PID.img so that they contain the kept pages; our pages still refer to a parent.
 * kept: the bytes of the kept pages, one range behind the other. Not synced. */
int mem_split_write_kept(const struct mem_split *p, int images_fd, const void *kept, struct err *err);

#endif
