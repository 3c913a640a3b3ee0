/* Sets of pages: struct mem_range in ascending order of id and address, without overlaps. Pure computation. */
#ifndef FSCHED_IMAGE_RANGES_H
#define FSCHED_IMAGE_RANGES_H

#include <stddef.h>
#include <stdint.h>
#include "image/image.h"

/* Zeroed is empty. */
struct mem_ranges {
	struct mem_range *v; /* owned */
	size_t n, room;
	uint64_t pages; /* sum of all npages */
};

/* Appends [start, end), page-aligned and not before the end of what r contains. It is joined with the last range if it
 * touches it. An empty interval adds nothing. */
void mem_ranges_add(struct mem_ranges *r, uint64_t id, uint64_t start, uint64_t end);
/* Frees and empties. */
void mem_ranges_free(struct mem_ranges *r);

/* Append the difference a - b, or the intersection of a and b, to out, whose content must lie before a. Every range
 * that is added lies in one range of a: ranges of a that touch each other are not joined. */
void mem_ranges_without(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
			size_t n_b);
void mem_ranges_common(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
		       size_t n_b);
/* Append the pages of v that an extent of the image covers, or those that none covers. m may be NULL: no page. */
void mem_ranges_in_image(struct mem_ranges *out, const struct mem_range *v, size_t n, const struct mem_image *m);
void mem_ranges_not_in_image(struct mem_ranges *out, const struct mem_range *v, size_t n, const struct mem_image *m);

/* Pages that spaces share since a fork: the pages of v[i] are the same as those of space of[i] at the same addresses. v
 * is ascending without overlaps. The pages of space of[i] that v[i] refers to are never in v themselves. Zeroed is
 * empty. */
struct mem_fork_shared {
	struct mem_range *v; /* owned, as of */
	uint64_t *of;
	size_t n, room, of_room;
	uint64_t pages; /* sum of all npages */
};

#endif
