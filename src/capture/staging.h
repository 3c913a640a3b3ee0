/* Memory that is made and touched before a freeze, so that a copy in the freeze faults no page in. */
#ifndef FSCHED_CAPTURE_STAGING_H
#define FSCHED_CAPTURE_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem_area {
	uint8_t *p;
	size_t len, used;
};

/* Zeros. May get less than bytes, down to nothing. */
void mem_area_make(struct mem_area *a, uint64_t bytes);
void mem_area_free(struct mem_area *a);
bool mem_area_fits(const struct mem_area *a, uint64_t bytes);
/* NULL if it does not fit. Lives as long as the area. */
void *mem_area_take(struct mem_area *a, size_t bytes);

#endif
