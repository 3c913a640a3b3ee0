/* Memory of an image that its processes are to have in common again.
 *
 * criu gives a process that it forks the memory of the one that it forks it from, and keeps those pages that are the
 * same. So what several spaces refer to at the same address has to be restored by criu, in all of them; the rest can be
 * filled in afterwards. In criu's images such pages are there once: among those of the first space that has them, its
 * origin, which is the parent image of the others (image/restore_dir.h). A space has one parent image. What it has in
 * common with others than that is not in common after a restore, nor what no process has that it descends from. */
#ifndef FSCHED_IMAGE_FORK_FAMILY_H
#define FSCHED_IMAGE_FORK_FAMILY_H

#include <stddef.h>
#include <stdint.h>
#include "image/image.h"
#include "image/ranges.h"

/* A space with such pages. */
struct mem_member {
	uint64_t id;
	uint64_t origin;        /* 0: there is none */
	struct mem_ranges from; /* pages that are those of the origin */
	struct mem_ranges own;  /* pages that others refer to */
};

struct mem_family {
	struct mem_member *v; /* owned; ascending by id */
	size_t n;
	uint64_t pages; /* of all "from" */
};

/* What processes have in common is not worth it below min bytes: then it is empty. Memory: 16 bytes for each page of a
 * chunk that several refer to. */
void mem_family_find(const struct mem_image *m, uint64_t min, struct mem_family *f);
void mem_family_free(struct mem_family *f);
/* NULL: it has nothing in common. f may be NULL. */
const struct mem_member *mem_family_member(const struct mem_family *f, uint64_t id);
/* Adds all pages of all members to out, which is empty. */
void mem_family_pages(const struct mem_family *f, struct mem_ranges *out);

#endif
