/* criu's pagemap. */
#include <stdlib.h>

#include "fuzz.h"
#include "criu/criu_pagemap.h"
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct criu_pagemap p;
	uint64_t floor = 0;

	if (criu_pagemap_parse(data, size, &p, NULL) < 0)
		return 0;
	for (size_t i = 0; i < p.n; i++) {
		uint64_t end = p.v[i].addr + p.v[i].npages * MEM_PAGE;

		if (p.v[i].addr < floor || end <= p.v[i].addr || end > UINT64_C(1) << 63)
			abort();
		floor = end;
	}
	criu_pagemap_free(&p);
	return 0;
}
