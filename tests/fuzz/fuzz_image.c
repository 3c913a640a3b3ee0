/* The files "image" and "hashes". Their checksums are made right first, or nothing behind them would ever be reached.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fuzz.h"
#include "image/image_internal.h"

#define SUM 16u

/* What was accepted must be usable: every reference in it is followed, and it is the same after a round trip. */
static void use(const struct mem_layout *l)
{
	cleanup_free uint64_t *bases = mem_layout_page_bases(l);
	cleanup_free uint8_t *again = NULL;
	uint64_t pages = 0;
	struct mem_layout back;
	size_t len;

	for (size_t s = 0; s < l->n_spaces; s++) {
		const struct mem_space *space = mem_layout_space(l, l->spaces[s].id);

		if (space != &l->spaces[s])
			abort();
		for (uint64_t i = space->first; i < space->first + space->count; i++) {
			const struct mem_extent *e = &l->extents[i];

			if (mem_layout_seek(l, space, e->addr) != i)
				abort();
			if (e->chunk == MEM_ZERO)
				continue;
			if (e->first + e->npages > l->chunks[e->chunk].npages || l->chunks[e->chunk].file >= l->n_files)
				abort();
			pages += e->npages;
		}
	}
	if (bases[l->n_extents] != pages)
		abort();
	again = mem_layout_render(l, &len);
	if (mem_layout_parse(again, len, &back, NULL) < 0)
		abort();
	mem_layout_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free uint8_t *buf = xmalloc(size + 1);
	const uint64_t image_sum[2] = { 1, 2 };
	struct mem_hash *hashes = NULL;
	struct mem_layout l;
	uint64_t sum[2];

	memcpy(buf, data, size);
	if (size >= SUM) {
		mem_sum128(buf, size - SUM, sum);
		memcpy(buf + size - SUM, sum, SUM);
	}
	if (mem_layout_parse(buf, size, &l, NULL) == 0) {
		use(&l);
		mem_layout_free(&l);
	}
	if (size >= 64)
		mem_hashes_parse(buf, size, (size - 64) / 16, image_sum, &hashes, NULL);
	free(hashes);
	return 0;
}
