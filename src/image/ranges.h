/* Sets of pages: struct mem_range in ascending order of id and address, not overlapping. Pure computation. */
#ifndef FSCHED_IMAGE_RANGES_H
#define FSCHED_IMAGE_RANGES_H

#include <stddef.h>
#include <stdint.h>
#include "image/image.h"

struct mem_ranges {
	struct mem_range *v; /* owned */
	size_t n, room;
	uint64_t pages;
};

/* [start, end): page-aligned, and not before what is there; joined with the last range if it touches it. An empty one
 * adds nothing. */
void mem_ranges_add(struct mem_ranges *r, uint64_t id, uint64_t start, uint64_t end);
void mem_ranges_free(struct mem_ranges *r);

/* Appends a without b to out; what is in both. What is in out already lies before a. Each range that is added lies in
 * one of a. */
void mem_ranges_without(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
			size_t n_b);
void mem_ranges_common(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
		       size_t n_b);
/* Those of v that the image has pages for, whatever they hold. */
void mem_ranges_in_image(struct mem_ranges *out, const struct mem_range *v, size_t n, const struct mem_image *m);
/* Those that it has none for; m may be NULL, which has none at all. */
void mem_ranges_not_in_image(struct mem_ranges *out, const struct mem_range *v, size_t n, const struct mem_image *m);

/* Pages v[i] are those that process of[i] has at the same addresses. Ascending by id and address, not overlapping; what
 * process of[i] has there is never itself in v. */
struct mem_sames {
	struct mem_range *v; /* owned */
	uint64_t *of;
	size_t n, room;
	uint64_t pages;
};

#endif
