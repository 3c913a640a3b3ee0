#include "image/fork_family.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/util.h"
#include "image/image_internal.h"
#include "image/space_id.h"

/* The first use of a page of a chunk. */
struct use {
	uint64_t addr;
	uint32_t space; /* index + 1; 0: not used yet */
};

/* Pages of a space that an earlier space, the origin, has at the same addresses. */
struct run {
	uint32_t space, origin;
	uint64_t addr, npages;
};

struct fork_family_search {
	const struct mem_layout *l;
	bool *several;       /* per chunk: a page of it is referred to more than once */
	uint64_t *first_use; /* per chunk: index of its first page in uses. Before: a bit for each page that is referred
				to */
	struct use *uses;
	struct run *runs; /* ascending by space and address */
	size_t n_runs, room;
};

typedef void extent_fn(struct fork_family_search *s, uint32_t space, const struct mem_extent *e);

static void fork_family_each_extent(struct fork_family_search *s, extent_fn *fn)
{
	const struct mem_layout *l = s->l;

	for (size_t i = 0; i < l->n_spaces; i++)
		for (size_t k = 0; k < l->spaces[i].count && !mem_is_object(l->spaces[i].id); k++)
			if (l->extents[l->spaces[i].first + k].chunk != MEM_ZERO)
				fn(s, (uint32_t)i, &l->extents[l->spaces[i].first + k]);
}

static void fork_family_count_uses(struct fork_family_search *s, uint32_t space, const struct mem_extent *e)
{
	const uint64_t bits = (e->npages == MEM_CHUNK_PAGES ? ~UINT64_C(0) : (UINT64_C(1) << e->npages) - 1) << e->first;

	(void)space;
	s->several[e->chunk] |= (s->first_use[e->chunk] & bits) != 0;
	s->first_use[e->chunk] |= bits;
}

static void fork_family_add_run(struct fork_family_search *s, uint32_t space, uint32_t origin, uint64_t addr)
{
	struct run *last = s->n_runs ? &s->runs[s->n_runs - 1] : NULL;

	if (last && last->space == space && last->origin == origin && last->addr + last->npages * MEM_PAGE == addr) {
		last->npages++;
		return;
	}
	array_reserve(s->runs, s->n_runs, s->room);
	s->runs[s->n_runs++] = (struct run){ space, origin, addr, 1 };
}

static void fork_family_scan_pages(struct fork_family_search *s, uint32_t space, const struct mem_extent *e)
{
	for (uint32_t i = 0; s->several[e->chunk] && i < e->npages; i++) {
		struct use *u = &s->uses[s->first_use[e->chunk] + e->first + i];
		const uint64_t addr = e->addr + (uint64_t)i * MEM_PAGE;

		if (!u->space)
			*u = (struct use){ addr, space + 1 };
		else if (u->addr == addr && u->space != space + 1)
			fork_family_add_run(s, space, u->space - 1, addr);
	}
}

static void fork_family_find_runs(struct fork_family_search *s)
{
	const struct mem_layout *l = s->l;
	uint64_t n = 0;

	s->several = xcalloc(l->n_chunks + 1, sizeof(*s->several));
	s->first_use = xcalloc(l->n_chunks + 1, sizeof(*s->first_use));
	fork_family_each_extent(s, fork_family_count_uses);
	for (size_t i = 0; i < l->n_chunks; i++) {
		s->first_use[i] = n;
		n += s->several[i] ? l->chunks[i].npages : 0;
	}
	s->uses = xcalloc(n + 1, sizeof(*s->uses));
	fork_family_each_extent(s, fork_family_scan_pages);
	free(s->uses);
	free(s->first_use);
	free(s->several);
}

/* ---- one origin for each space ------------------------------------------------------ */

/* The origin with the most pages among the n runs of a space. pages: zeros, per space. */
static uint32_t fork_family_best_origin(const struct run *r, size_t n, uint64_t *pages)
{
	uint32_t best = r->origin;

	for (size_t i = 0; i < n; i++) {
		pages[r[i].origin] += r[i].npages;
		if (pages[r[i].origin] > pages[best])
			best = r[i].origin;
	}
	for (size_t i = 0; i < n; i++)
		pages[r[i].origin] = 0;
	return best;
}

/* Keeps only the runs of the best origin of each space. */
static void fork_family_choose_origins(struct fork_family_search *s)
{
	cleanup_free uint64_t *pages = xcalloc(s->l->n_spaces + 1, sizeof(*pages));
	size_t kept = 0;

	for (size_t i = 0, next; i < s->n_runs; i = next) {
		uint32_t best;

		for (next = i; next < s->n_runs && s->runs[next].space == s->runs[i].space; next++)
			;
		best = fork_family_best_origin(&s->runs[i], next - i, pages);
		for (size_t k = i; k < next; k++)
			if (s->runs[k].origin == best)
				s->runs[kept++] = s->runs[k];
	}
	s->n_runs = kept;
}

static int fork_family_by_origin(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	if (x->origin != y->origin)
		return x->origin < y->origin ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Adds a run to the pages of its origin. Runs of several spaces may overlap; they come in ascending order. */
static void fork_family_add_own(struct mem_ranges *own, uint64_t id, const struct run *r)
{
	const struct mem_range *last = own->n ? &own->v[own->n - 1] : NULL;
	const uint64_t done = last ? mem_range_end(last) : 0, end = r->addr + r->npages * MEM_PAGE;

	if (end > done)
		mem_ranges_add(own, id, r->addr > done ? r->addr : done, end);
}

static void fork_family_make_members(struct fork_family_search *s, struct mem_fork_family *f)
{
	const struct mem_space *spaces = s->l->spaces;
	size_t kept = 0;

	f->v = xcalloc(s->l->n_spaces + 1, sizeof(*f->v));
	for (size_t i = 0; i < s->l->n_spaces; i++)
		f->v[i].id = spaces[i].id;
	for (size_t i = 0; i < s->n_runs; i++) {
		const struct run *r = &s->runs[i];

		f->v[r->space].origin = spaces[r->origin].id;
		mem_ranges_add(&f->v[r->space].from, spaces[r->space].id, r->addr, r->addr + r->npages * MEM_PAGE);
		f->pages += r->npages;
	}
	qsort(s->runs, s->n_runs, sizeof(*s->runs), fork_family_by_origin);
	for (size_t i = 0; i < s->n_runs; i++)
		fork_family_add_own(&f->v[s->runs[i].origin].own, spaces[s->runs[i].origin].id, &s->runs[i]);
	for (size_t i = 0; i < s->l->n_spaces; i++)
		if (f->v[i].from.n || f->v[i].own.n)
			f->v[kept++] = f->v[i];
	f->n = kept;
}

void mem_fork_family_find(const struct mem_image *m, uint64_t min, struct mem_fork_family *f)
{
	struct fork_family_search s = { .l = &m->l };
	uint64_t pages = 0;

	*f = (struct mem_fork_family){ 0 };
	fork_family_find_runs(&s);
	if (s.n_runs)
		fork_family_choose_origins(&s);
	for (size_t i = 0; i < s.n_runs; i++)
		pages += s.runs[i].npages;
	if (pages && pages * MEM_PAGE >= min)
		fork_family_make_members(&s, f);
	free(s.runs);
}

void mem_fork_family_free(struct mem_fork_family *f)
{
	for (size_t i = 0; i < f->n; i++) {
		mem_ranges_free(&f->v[i].from);
		mem_ranges_free(&f->v[i].own);
	}
	free(f->v);
	*f = (struct mem_fork_family){ 0 };
}

const struct mem_fork_member *mem_fork_family_member(const struct mem_fork_family *f, uint64_t id)
{
	size_t low = 0, high = f ? f->n : 0;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (f->v[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return f && low < f->n && f->v[low].id == id ? &f->v[low] : NULL;
}

void mem_fork_family_pages(const struct mem_fork_family *f, struct mem_ranges *out)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct mem_ranges *a = &f->v[i].from, *b = &f->v[i].own;

		for (size_t x = 0, y = 0; x < a->n || y < b->n;) {
			const struct mem_range *r = y == b->n || (x < a->n && a->v[x].addr < b->v[y].addr) ? &a->v[x++]
													   : &b->v[y++];

			mem_ranges_add(out, r->id, r->addr, mem_range_end(r));
		}
	}
}
