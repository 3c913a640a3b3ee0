#include "capture/staging.h"

#include <sys/mman.h>

#include "image/image.h"

#define HUGE_PAGE (2u << 20)

void mem_staging_make(struct mem_staging *a, uint64_t bytes)
{
	size_t len = (size_t)(bytes + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
	void *p = len ? mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
		      : MAP_FAILED;

	*a = (struct mem_staging){ 0 };
	if (p == MAP_FAILED)
		return;
	a->p = p;
	a->len = len;
	madvise(p, len, MADV_HUGEPAGE);
	/* Without this, the fork of criu would make every page copy-on-write, and the writes happen in the freeze. */
	madvise(p, len, MADV_DONTFORK);
	for (size_t i = 0; i < len; i += MEM_PAGE)
		((volatile uint8_t *)a->p)[i] = 0;
}

void mem_staging_free(struct mem_staging *a)
{
	if (a->p)
		munmap(a->p, a->len);
	*a = (struct mem_staging){ 0 };
}

bool mem_staging_fits(const struct mem_staging *a, uint64_t bytes)
{
	return a->len - a->used >= bytes;
}

void *mem_staging_take(struct mem_staging *a, size_t bytes)
{
	void *p;

	if (!a->p || !mem_staging_fits(a, bytes))
		return NULL;
	p = a->p + a->used;
	a->used += bytes;
	return p;
}
