/* criu's pagemap-PID.img: lists which pages of a process are in pages-N.img, in the order of that file. */
#ifndef FSCHED_CRIU_CRIU_PAGEMAP_H
#define FSCHED_CRIU_CRIU_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

#define CRIU_PAGE       4096u /* bytes of a page in criu's images */

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
	size_t n, room;
};

/* Parses an image, or reads and parses it. The entries must be page-aligned, ascending, below 2^63, and have known
 * flags only; otherwise -1 with EBADMSG. Entries of criu before 1.6 ("in_parent") are accepted. */
int criu_pagemap_parse(const void *buf, size_t len, struct criu_pagemap *p, struct err *err);
int criu_pagemap_load(int dirfd, const char *name, struct criu_pagemap *p, struct err *err);
/* Writes an image. criu up to 4.1 reads the number of pages from a field of 32 bits, criu from 4.2 on from one of 64
 * bits. Both fields are written; a longer entry is split. */
int criu_pagemap_store(int dirfd, const char *name, const struct criu_pagemap *p, struct err *err);
void criu_pagemap_free(struct criu_pagemap *p);
/* Appends an entry, which must lie behind the last one. */
void criu_pagemap_add(struct criu_pagemap *p, struct criu_pagemap_entry e);

/* "pagemap-12.img" -> 12, 0 for other names. */
pid_t criu_pagemap_pid(const char *name);

#endif
