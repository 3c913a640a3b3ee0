/* Plain criu images out of an epoch whose memory is ours. */
#ifndef FSCHED_IMAGE_CRIU_EXPORT_H
#define FSCHED_IMAGE_CRIU_EXPORT_H

#include <stdint.h>
#include "base/err.h"
#include "image/image.h"
#include "image/ranges.h"

struct mem_export_stats {
	uint64_t from_image, from_criu, zero;
}; /* bytes */

/* criu wrote images_fd/pagemap-<pid>.img with entries that refer to a parent image; the pages of these are space id of
 * m. Writes pagemap-<pid>.img without any parent, and its pages-N.img, into outfd. Other images of the epoch are the
 * caller's to copy, but the link "parent". ENODATA: the image lacks a page that criu's pagemap names. opts: threads and
 * cancel; may be NULL, as stats. Not synced. */
int mem_export_pages(struct mem_image *m, uint64_t id, int pid, int images_fd, int out_fd,
		     const struct mem_read_opts *opts, struct mem_export_stats *stats, struct err *err);
/* Some of it: "parent", ascending, stays in a parent image, which is the caller's to make; of the rest only "own" is
 * written, or if that is NULL all. */
struct mem_export_parts {
	const struct mem_ranges *parent, *own;
};
struct criu_pagemap;
/* Only the list, if "own" is empty: cut down to what is to be in it. */
void mem_export_cut(struct criu_pagemap *map, const struct mem_export_parts *parts);
int mem_export_some(struct mem_image *m, uint64_t id, int pid, int images_fd, int out_fd,
		    const struct mem_export_parts *parts, const struct mem_read_opts *opts,
		    struct mem_export_stats *stats, struct err *err);
/* The same for shared memory: name is the list that criu wrote of it, an empty one. */
int mem_export_shared(struct mem_image *m, uint64_t id, const char *name, int images_fd, int out_fd,
		      const struct mem_read_opts *opts, struct err *err);

#endif
