/* Pages of an image that several processes must share again after a restore, because they shared them since a fork.
 *
 * criu gives a process that it forks the memory of the process that it forks it from, and keeps shared the pages whose
 * content is the same. So criu itself has to restore pages to which several spaces refer at the same address, in all of
 * these spaces; all other pages can be filled in afterwards. criu's images contain such pages once: in the images of
 * the first space that has them, the origin, which are the parent image of the other spaces (image/restore_dir.h).
 *
 * A space has one parent image. Therefore pages that it shares with further spaces are not shared after a restore.
 * Neither are pages that it shares with a process that it does not descend from. */
#ifndef FSCHED_IMAGE_FORK_FAMILY_H
#define FSCHED_IMAGE_FORK_FAMILY_H

#include <stddef.h>
#include <stdint.h>
#include "image/image.h"
#include "image/ranges.h"

/* A space with shared pages. */
struct mem_fork_member {
	uint64_t id;
	uint64_t origin;        /* the space that its shared pages come from; 0: none */
	struct mem_ranges from; /* its pages that are those of the origin */
	struct mem_ranges own;  /* its pages that are in the "from" of others */
};

struct mem_fork_family {
	struct mem_fork_member *v; /* owned; ascending by id */
	size_t n;
	uint64_t pages; /* sum of all "from" */
};

/* Finds the shared pages of all processes of m. *f is empty if they have less than min bytes, which is not worth the
 * effort. Uses 16 bytes of memory for each page of a chunk that is referred to more than once. */
void mem_fork_family_find(const struct mem_image *m, uint64_t min, struct mem_fork_family *f);
void mem_fork_family_free(struct mem_fork_family *f);
/* The member with this id; NULL if the space shares nothing. f may be NULL. */
const struct mem_fork_member *mem_fork_family_member(const struct mem_fork_family *f, uint64_t id);
/* Adds all pages of all members to out, which must be empty. */
void mem_fork_family_pages(const struct mem_fork_family *f, struct mem_ranges *out);

#endif
