/* Finds pages that processes share since a fork: the same page frame at the same address, by the page frame numbers in
 * /proc/PID/pagemap. The kernel shows them only with CAP_SYS_ADMIN (Linux 4.2); without it nothing is found. */
#ifndef FSCHED_CAPTURE_FORK_SHARED_H
#define FSCHED_CAPTURE_FORK_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "image/image.h"
#include "image/ranges.h"

/* A process and the pages in which to look, ascending. */
struct mem_fork_shared_process {
	uint64_t id; /* of its space */
	pid_t host;
	const struct mem_range *v; /* borrowed */
	size_t n;
};

/* p: ascending by id. Replaces *out, to be freed. For stopped processes the result is exact. For running processes, a
 * page was shared at the time of the call, unless process of[i] has written to it meanwhile. Uses memory of 1/300 of
 * the address space in which shared pages lie, once for each version of it that several processes share. */
void mem_fork_shared_find(const struct mem_fork_shared_process *p, size_t n, struct mem_fork_shared *out);
/* Appends r, which lies behind all that s contains; joined with the last range if it continues that one. */
void mem_fork_shared_add(struct mem_fork_shared *s, const struct mem_range *r, uint64_t of);
/* Frees and empties. */
void mem_fork_shared_free(struct mem_fork_shared *s);
/* s was found while the processes ran; afterwards the pages of the processes of[i] were copied. clean: pages that are
 * unwritten since before s was found. Removes from clean every page of s that refers to a page which is not clean: its
 * copy may have been made after a write. */
void mem_fork_shared_remove_stale(const struct mem_fork_shared *s, struct mem_ranges *clean);

#endif
