/* Memory that is made and touched before a freeze, so that a copy in the freeze faults no page in. */
#ifndef FSCHED_CAPTURE_STAGING_H
#define FSCHED_CAPTURE_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem_staging {
	uint8_t *p;
	size_t len, used;
};

/* Zeros. May get less than bytes, down to nothing. */
void mem_staging_make(struct mem_staging *a, uint64_t bytes);
void mem_staging_free(struct mem_staging *a);
bool mem_staging_fits(const struct mem_staging *a, uint64_t bytes);
/* NULL if it does not fit. Lives as long as the area. */
void *mem_staging_take(struct mem_staging *a, size_t bytes);

#endif
