/* Which pages a process has, and which it has written: /proc/PID/pagemap and its PAGEMAP_SCAN
 * (Documentation/admin-guide/mm/pagemap.rst). */
#ifndef FSCHED_CAPTURE_PAGEMAP_H
#define FSCHED_CAPTURE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include "image/ranges.h"

/* Bits of an entry, which has 8 bytes, one entry for each page. */
#define MEM_ENTRY_IN_MEMORY  (1ULL << 63)
#define MEM_ENTRY_PRESENT    (3ULL << 62) /* in memory or swapped out */
#define MEM_ENTRY_SOFT_DIRTY (1ULL << 55)
#define MEM_ENTRY_EXCLUSIVE  (1ULL << 56) /* no other process maps the page (Linux 4.2) */

/* Which pages to collect; of these, only those that are in memory or swapped out. */
enum mem_pages {
	MEM_PAGES_PRESENT,    /* all */
	MEM_PAGES_UNWRITTEN,  /* write-protected by userfaultfd in its asynchronous mode, and not written since (6.7) */
	MEM_PAGES_PROTECT,    /* the same, and write-protects all pages again, each in one step with its examination */
	MEM_PAGES_SOFT_CLEAN, /* not written since the soft-dirty bits were cleared (CONFIG_MEM_SOFT_DIRTY) */
};

/* Whether this kernel has PAGEMAP_SCAN and UFFD_FEATURE_WP_ASYNC, and whether it has soft-dirty bits. Each is tried on
 * a page of the caller. */
bool mem_pagemap_can_protect(void);
bool mem_pagemap_has_soft_dirty(void);

/* Adds the pages of [start, end) to out, under id. pagemap: a descriptor of /proc/PID/pagemap. 0, or -1 with errno
 * (ESRCH: the process has ended). */
int mem_pagemap_collect(int pagemap, enum mem_pages what, uint64_t id, uint64_t start, uint64_t end,
			struct mem_ranges *out);

#endif
