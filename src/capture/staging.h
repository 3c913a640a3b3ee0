/* Memory for copies that is allocated and faulted in before a freeze, so that a copy in the freeze causes no page
 * faults. */
#ifndef FSCHED_CAPTURE_STAGING_H
#define FSCHED_CAPTURE_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem_staging {
	uint8_t *p;
	size_t len, used; /* bytes */
};

/* Allocates zeroed memory. If there is not enough, a has no memory at all. */
void mem_staging_make(struct mem_staging *a, uint64_t bytes);
void mem_staging_free(struct mem_staging *a);
bool mem_staging_fits(const struct mem_staging *a, uint64_t bytes);
/* The next bytes of it, valid until mem_staging_free(). NULL if they do not fit. */
void *mem_staging_take(struct mem_staging *a, size_t bytes);

#endif
