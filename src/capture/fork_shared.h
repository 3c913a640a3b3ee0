/* Pages that processes have in common since a fork: the same memory at the same address, found by its place in the
 * machine
 * (/proc/PID/pagemap, for which CAP_SYS_ADMIN is needed; without it nothing is found). */
#ifndef FSCHED_CAPTURE_FORK_SHARED_H
#define FSCHED_CAPTURE_FORK_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "image/image.h"
#include "image/ranges.h"

/* A process, the pages in question, ascending. */
struct mem_fork_shared_process {
	uint64_t id;
	pid_t host;
	const struct mem_range *v;
	size_t n;
};

/* p: ascending by id. Of stopped processes the answer is exact. Of running ones it is true for a page as of the call,
 * if the process of[i] did not write to it meanwhile. Memory: 1/300 of the address space in which there are such pages,
 * for each version of it that several have. */
void mem_fork_shared_find(const struct mem_fork_shared_process *p, size_t n, struct mem_fork_shared *out);
/* Behind what is there; joined with the last one if it goes on with it. */
void mem_fork_shared_add(struct mem_fork_shared *s, const struct mem_range *r, uint64_t of);
void mem_fork_shared_free(struct mem_fork_shared *s);
/* s was found of running processes, and what process of[i] had was copied afterwards. clean: pages that nobody has
 * written since before that. What of s was copied from a page that is not clean is taken out of it. */
void mem_fork_shared_remove_stale(const struct mem_fork_shared *s, struct mem_ranges *clean);

#endif
