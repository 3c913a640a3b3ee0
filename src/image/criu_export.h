/* Writes criu's pages-N.img and its list of pages (pagemap-PID.img) with pages of a memory image. */
#ifndef FSCHED_IMAGE_CRIU_EXPORT_H
#define FSCHED_IMAGE_CRIU_EXPORT_H

#include <stdint.h>
#include "base/err.h"
#include "image/image.h"
#include "image/ranges.h"

/* In bytes. */
struct mem_criu_export_stats {
	uint64_t from_image; /* data pages of the memory image */
	uint64_t from_criu;  /* pages of criu's own pages-N.img */
	uint64_t zero;       /* zero pages of the memory image; they become holes */
};

/* A selection of the pages that criu's list refers to its parent image. NULL instead of the struct: all of them are
 * written. Both sets are borrowed and ascending. */
struct mem_criu_export_parts {
	const struct mem_ranges *parent; /* stay in a parent image, which the caller provides; NULL: none */
	const struct mem_ranges *own;    /* of the rest, only these are written; NULL: all */
};

struct criu_pagemap;
/* Changes the entries of a list that refer to a parent: "parent" keeps the reference, "own" becomes pages of this
 * image, and all others are removed. For a list of which "own" selects no page, this is all that an export does. */
void mem_criu_export_filter(struct criu_pagemap *map, const struct mem_criu_export_parts *parts);

/* criu has written images_fd/pagemap-<pid>.img with entries that refer to a parent image. The pages of these are in
 * space id of m. Writes pagemap-<pid>.img and its pages-N.img into out_fd, without a parent but for parts->parent. The
 * caller copies the other images of the epoch, but not the link "parent". opts: threads and cancel; opts and stats may
 * be NULL. -1 with err; ENODATA: the image lacks a page that criu's list names. Not synced. */
int mem_criu_export_pages(struct mem_image *m, uint64_t id, int pid, int images_fd, int out_fd,
			  const struct mem_criu_export_parts *parts, const struct mem_read_opts *opts,
			  struct mem_criu_export_stats *stats, struct err *err);
/* The same for a shared memory object. name: criu's list of it, which is empty because all data is in the image. */
int mem_criu_export_shared(struct mem_image *m, uint64_t id, const char *name, int images_fd, int out_fd,
			   const struct mem_read_opts *opts, struct err *err);

#endif
