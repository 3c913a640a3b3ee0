/* criu's pagemap-PID.img: which pages of a process are in pages-N.img, and in which order. */
#ifndef FSCHED_CRIU_CRIU_PAGEMAP_H
#define FSCHED_CRIU_CRIU_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

#define CRIU_PAGE       4096u /* bytes of a page, in all of criu's images that are read here */

#define CRIU_PE_PARENT  1u /* the pages are in the parent image */
#define CRIU_PE_LAZY    2u /* may be filled in after the restore */
#define CRIU_PE_PRESENT 4u /* the pages are in pages-N.img */

struct criu_pagemap_entry {
	uint64_t addr, npages;
	uint32_t flags;
};

struct criu_pagemap {
	uint32_t pages_id;            /* N of pages-N.img */
	struct criu_pagemap_entry *v; /* owned; ascending, not overlapping */
	size_t n;
};

/* Strict: page-aligned, ascending, below 2^63, known flags only. Entries of criu before 1.6 ("in_parent") are
 * understood. EBADMSG if it is anything else. */
int criu_pagemap_parse(const void *buf, size_t len, struct criu_pagemap *p, struct err *err);
int criu_pagemap_load(int dirfd, const char *name, struct criu_pagemap *p, struct err *err);
/* Both fields for the number of pages are written where it fits (32 bits up to criu 4.1, 64 bits from 4.2 on); a longer
 * entry is split. */
int criu_pagemap_store(int dirfd, const char *name, const struct criu_pagemap *p, struct err *err);
void criu_pagemap_free(struct criu_pagemap *p);

/* "pagemap-12.img" -> 12, 0 for other names. */
pid_t criu_pagemap_pid(const char *name);

#endif
