/* What the kernel tells of a process's pages: /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#ifndef FSCHED_CAPTURE_PAGEMAP_H
#define FSCHED_CAPTURE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include "image/ranges.h"

/* Of an entry of 8 bytes, one for each page. */
#define MEM_ENTRY_IN_MEMORY  (1ULL << 63)
#define MEM_ENTRY_PRESENT    (3ULL << 62) /* in memory or swapped out */
#define MEM_ENTRY_SOFT_DIRTY (1ULL << 55)
#define MEM_ENTRY_EXCLUSIVE  (1ULL << 56) /* no other process maps it. Linux 4.2 */

/* Which pages; all of them in memory or swapped out. */
enum mem_pages {
	MEM_PAGES_PRESENT,
	MEM_PAGES_UNWRITTEN,  /* protected by userfaultfd in its asynchronous mode, and not written since. Linux 6.7 */
	MEM_PAGES_PROTECT,    /* the same, and then all of them are protected again, each in one step */
	MEM_PAGES_SOFT_CLEAN, /* not written since soft-dirty bits were cleared (CONFIG_MEM_SOFT_DIRTY) */
};

/* True if this kernel has PAGEMAP_SCAN and userfaultfd's WP_ASYNC; true if it has soft-dirty bits. Tried on a page of
 * the caller's. */
bool mem_pagemap_can_protect(void);
bool mem_pagemap_has_soft_dirty(void);

/* Adds those of [start, end) to out under id. pagemap: descriptor of the process's. 0 or -1 with errno. */
int mem_pagemap_collect(int pagemap, enum mem_pages what, uint64_t id, uint64_t start, uint64_t end,
			struct mem_ranges *out);

#endif
