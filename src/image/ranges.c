#include "image/ranges.h"

#include <stdbool.h>

#include "base/array.h"
#include "base/util.h"

static void ranges_put(struct mem_ranges *r, uint64_t id, uint64_t start, uint64_t end, bool join)
{
	struct mem_range *last = r->n ? &r->v[r->n - 1] : NULL;

	if (start >= end)
		return;
	r->pages += (end - start) / MEM_PAGE;
	if (join && last && last->id == id && mem_range_end(last) == start) {
		last->npages += (end - start) / MEM_PAGE;
		return;
	}
	array_reserve(r->v, r->n, r->room);
	r->v[r->n++] = (struct mem_range){ id, start, (end - start) / MEM_PAGE };
}

void mem_ranges_add(struct mem_ranges *r, uint64_t id, uint64_t start, uint64_t end)
{
	ranges_put(r, id, start, end, true);
}

void mem_ranges_free(struct mem_ranges *r)
{
	free(r->v);
	*r = (struct mem_ranges){ 0 };
}

/* True if b ends at or before the address. */
static bool range_before(const struct mem_range *b, uint64_t id, uint64_t addr)
{
	return b->id < id || (b->id == id && mem_range_end(b) <= addr);
}

/* Cuts every range of a where one of b begins or ends, and appends the pieces inside b, or those outside b, to out. */
static void ranges_cut(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
		       size_t n_b, bool inside)
{
	size_t k = 0;

	for (size_t i = 0; i < n_a; i++) {
		uint64_t at = a[i].addr, end = mem_range_end(&a[i]);
		bool join = false;

		while (at < end) {
			uint64_t stop = end;
			bool in;

			while (k < n_b && range_before(&b[k], a[i].id, at))
				k++;
			in = k < n_b && b[k].id == a[i].id && b[k].addr <= at;
			if (in)
				stop = mem_range_end(&b[k]);
			else if (k < n_b && b[k].id == a[i].id)
				stop = b[k].addr;
			stop = stop < end ? stop : end;
			if (in == inside)
				ranges_put(out, a[i].id, at, stop, join);
			join |= in == inside;
			at = stop;
		}
	}
}

void mem_ranges_without(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
			size_t n_b)
{
	ranges_cut(out, a, n_a, b, n_b, false);
}

void mem_ranges_common(struct mem_ranges *out, const struct mem_range *a, size_t n_a, const struct mem_range *b,
		       size_t n_b)
{
	ranges_cut(out, a, n_a, b, n_b, true);
}

static void ranges_of_image(struct mem_ranges *there, const struct mem_image *m)
{
	size_t n_spaces = 0;
	const struct mem_space *s = m ? mem_image_spaces(m, &n_spaces) : NULL;

	for (size_t i = 0; i < n_spaces; i++) {
		size_t count;
		const struct mem_extent *e = mem_image_extents(m, s[i].id, &count);

		for (size_t k = 0; k < count; k++)
			mem_ranges_add(there, s[i].id, e[k].addr, e[k].addr + (uint64_t)e[k].npages * MEM_PAGE);
	}
}

void mem_ranges_in_image(struct mem_ranges *out, const struct mem_range *v, size_t n, const struct mem_image *m)
{
	struct mem_ranges there = { 0 };

	ranges_of_image(&there, m);
	mem_ranges_common(out, v, n, there.v, there.n);
	mem_ranges_free(&there);
}

void mem_ranges_not_in_image(struct mem_ranges *out, const struct mem_range *v, size_t n, const struct mem_image *m)
{
	struct mem_ranges there = { 0 };

	ranges_of_image(&there, m);
	mem_ranges_without(out, v, n, there.v, there.n);
	mem_ranges_free(&there);
}
