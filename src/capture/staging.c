#include "capture/staging.h"

#include <sys/mman.h>

#include "image/image.h"

#define HUGE_PAGE (2u << 20)

void mem_area_make(struct mem_area *a, uint64_t bytes)
{
	size_t len = (size_t)(bytes + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
	void *p = len ? mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
		      : MAP_FAILED;

	*a = (struct mem_area){ 0 };
	if (p == MAP_FAILED)
		return;
	a->p = p;
	a->len = len;
	madvise(p, len, MADV_HUGEPAGE);
	/* The fork of criu's helper would make every page one that is copied at the next write: in the freeze. */
	madvise(p, len, MADV_DONTFORK);
	for (size_t i = 0; i < len; i += MEM_PAGE)
		((volatile uint8_t *)a->p)[i] = 0;
}

void mem_area_free(struct mem_area *a)
{
	if (a->p)
		munmap(a->p, a->len);
	*a = (struct mem_area){ 0 };
}

bool mem_area_fits(const struct mem_area *a, uint64_t bytes)
{
	return a->len - a->used >= bytes;
}

void *mem_area_take(struct mem_area *a, size_t bytes)
{
	void *p;

	if (!a->p || !mem_area_fits(a, bytes))
		return NULL;
	p = a->p + a->used;
	a->used += bytes;
	return p;
}
