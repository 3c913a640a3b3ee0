#include "image/writer_internal.h"

#include <errno.h>
#include <string.h>

#include "base/array.h"
#include "base/util.h"
#include "image/ranges.h"

#define ADDR_MAX (UINT64_C(1) << 63)

void drafts_add(struct drafts *d, const struct draft *one)
{
	struct draft *last = d->n > 0 ? &d->v[d->n - 1] : NULL;

	if (last && last->kind == one->kind && last->space == one->space && last->chunk == one->chunk &&
	    last->thread == one->thread && last->addr + (uint64_t)last->npages * MEM_PAGE == one->addr &&
	    one->npages <= UINT32_MAX - last->npages &&
	    (one->kind == DRAFT_ZERO || last->first + last->npages == one->first) &&
	    (one->hash == NO_HASH ? last->hash == NO_HASH
				  : last->hash != NO_HASH && last->hash + last->npages == one->hash)) {
		last->npages += one->npages;
		return;
	}
	drafts_push(d, one);
}

void drafts_push(struct drafts *d, const struct draft *one)
{
	array_reserve(d->v, d->n, d->room);
	d->v[d->n++] = *one;
}

void pieces_add(struct pieces *p, const struct piece *one)
{
	array_reserve(p->v, p->n, p->room);
	p->v[p->n++] = *one;
}

/* ---- the work, sorted -------------------------------------------------- */

static int plan_by_place(const void *a, const void *b)
{
	const struct mem_range *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Checks that ranges are aligned, ascending and do not overlap. */
static int plan_check_ranges(const struct mem_range *v, size_t n, const char *what, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		const struct mem_range *r = &v[i];

		if (r->addr % MEM_PAGE != 0 || r->npages == 0 || r->addr > ADDR_MAX ||
		    r->npages > (ADDR_MAX - r->addr) / MEM_PAGE)
			return err_set(err, EINVAL, "%s: 0x%llx + %llu pages is not a valid range", what,
				       (unsigned long long)r->addr, (unsigned long long)r->npages);
		if (i > 0 && (v[i - 1].id > r->id || (v[i - 1].id == r->id && mem_range_end(&v[i - 1]) > r->addr)))
			return err_set(err, EINVAL, "%s: ranges overlap or are not ascending at 0x%llx of %llu", what,
				       (unsigned long long)r->addr, (unsigned long long)r->id);
	}
	return 0;
}

static void plan_collect_ids(struct writer *w)
{
	w->ids = xmalloc((w->n_work + 1) * sizeof(*w->ids));
	for (size_t i = 0; i < w->n_work; i++)
		if (w->n_ids == 0 || w->ids[w->n_ids - 1] != w->work[i].id)
			w->ids[w->n_ids++] = w->work[i].id;
}

/* Removes fork-shared pages from the work. */
static void plan_leave_out_fork_shared(struct writer *w)
{
	struct mem_ranges rest = { 0 };

	mem_ranges_without(&rest, w->work, w->n_work, w->o->fork_shared->v, w->o->fork_shared->n);
	free(w->work);
	w->work = rest.v;
	w->n_work = rest.n;
}

/* ---- which pages must be read ------------------------------------------ */

static void plan_read(struct writer *w, uint32_t space, uint64_t addr, uint64_t end)
{
	const struct piece p = { .addr = addr, .npages = (end - addr) / MEM_PAGE, .space = space, .chunk = MEM_ZERO };

	if (addr < end)
		pieces_add(&w->pieces, &p);
}

static void plan_reuse(struct writer *w, uint32_t space, size_t extent, uint64_t addr, uint64_t end)
{
	const struct mem_image *m = w->o->previous;
	const struct mem_extent *e = &m->l.extents[extent];
	uint64_t skip = (addr - e->addr) / MEM_PAGE;
	struct draft d = { .addr = addr, .space = space, .npages = (uint32_t)((end - addr) / MEM_PAGE), .hash = NO_HASH };

	if (e->chunk == MEM_ZERO) {
		d.kind = DRAFT_ZERO;
	} else {
		d.kind = DRAFT_OLD;
		d.chunk = e->chunk;
		d.first = (uint16_t)(e->first + skip);
		if (w->o->hashes && m->hashes)
			d.hash = m->page_base[extent] + skip;
	}
	drafts_add(&w->planned, &d);
}

/* [addr, end) is clean: pages that the previous image has are not read. */
static void plan_clean(struct writer *w, uint32_t space, uint64_t addr, uint64_t end)
{
	const struct mem_layout *l = &w->o->previous->l;
	const struct mem_space *s = mem_layout_space(l, w->ids[space]);

	for (size_t i = s ? mem_layout_seek(l, s, addr) : 0; s && addr < end && i < s->first + s->count; i++) {
		const struct mem_extent *e = &l->extents[i];
		uint64_t stop = e->addr + (uint64_t)e->npages * MEM_PAGE;

		if (e->addr >= end)
			break;
		if (e->addr > addr) {
			plan_read(w, space, addr, e->addr);
			addr = e->addr;
		}
		stop = stop < end ? stop : end;
		plan_reuse(w, space, i, addr, stop);
		addr = stop;
	}
	plan_read(w, space, addr, end);
}

/* *clean: index of the first clean range that may overlap r; it is advanced. */
static void plan_range(struct writer *w, uint32_t space, const struct mem_range *r, size_t *clean)
{
	const struct mem_write_opts *o = w->o;
	uint64_t addr = r->addr, end = mem_range_end(r);

	while (*clean < o->n_clean) {
		const struct mem_range *c = &o->clean[*clean];
		uint64_t from, to;

		if (c->id < r->id || (c->id == r->id && mem_range_end(c) <= addr)) {
			++*clean;
			continue;
		}
		if (c->id > r->id || c->addr >= end)
			break;
		from = c->addr > addr ? c->addr : addr;
		to = mem_range_end(c) < end ? mem_range_end(c) : end;
		plan_read(w, space, addr, from);
		plan_clean(w, space, from, to);
		addr = to;
		if (to == end)
			break;
	}
	plan_read(w, space, addr, end);
}

int writer_plan(struct writer *w, const struct mem_range *work, size_t n, struct err *err)
{
	size_t clean = 0;
	uint32_t space = 0;

	w->work = xmalloc((n + 1) * sizeof(*work));
	if (n > 0)
		memcpy(w->work, work, n * sizeof(*work));
	w->n_work = n;
	qsort(w->work, n, sizeof(*w->work), plan_by_place);
	if (plan_check_ranges(w->work, n, "pages to save", err) < 0)
		return -1;
	if (w->o->previous && plan_check_ranges(w->o->clean, w->o->n_clean, "clean pages", err) < 0)
		return -1;
	plan_collect_ids(w);
	if (w->o->fork_shared) {
		if (plan_check_ranges(w->o->fork_shared->v, w->o->fork_shared->n, "fork-shared pages", err) < 0)
			return -1;
		plan_leave_out_fork_shared(w);
	}
	for (size_t i = 0; i < w->n_work; i++) {
		while (w->ids[space] != w->work[i].id)
			space++;
		if (w->o->previous)
			plan_range(w, space, &w->work[i], &clean);
		else
			plan_read(w, space, w->work[i].addr, mem_range_end(&w->work[i]));
	}
	return 0;
}
