/* The finish_image stage: writes "image" and "hashes" from the drafts and chunks of all threads. */
#include "image/writer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"

static int draft_by_place(const void *a, const void *b)
{
	const struct draft *x = a, *y = b;

	if (x->space != y->space)
		return x->space < y->space ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* ---- fork-shared pages ----------------------------------------------------- */

static uint64_t draft_end(const struct draft *d)
{
	return d->addr + (uint64_t)d->npages * MEM_PAGE;
}

/* Index of the first draft that ends above addr, among the first n drafts, which are sorted. */
static size_t finish_first_draft(const struct drafts *all, size_t n, uint32_t space, uint64_t addr)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct draft *d = &all->v[mid];

		if (d->space < space || (d->space == space && draft_end(d) <= addr))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static uint32_t finish_space_index(const struct writer *w, uint64_t id)
{
	size_t low = 0, high = w->n_ids;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (w->ids[mid] < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < w->n_ids && w->ids[low] == id ? (uint32_t)low : UINT32_MAX;
}

/* The part [addr, end) of d, as a draft of another space. */
static struct draft draft_part(const struct draft *d, uint64_t addr, uint64_t end, uint32_t space)
{
	const uint64_t skip = (addr - d->addr) / MEM_PAGE;
	struct draft part = *d;

	part.addr = addr;
	part.npages = (uint32_t)((end - addr) / MEM_PAGE);
	part.space = space;
	if (d->kind != DRAFT_ZERO)
		part.first = (uint16_t)(d->first + skip);
	if (d->hash != NO_HASH)
		part.hash = d->hash + skip;
	return part;
}

static int finish_copy_drafts(const struct writer *w, struct drafts *all, size_t sorted, const struct mem_range *r,
			      uint64_t of, struct err *err)
{
	const uint32_t space = finish_space_index(w, r->id), from = finish_space_index(w, of);
	uint64_t addr = r->addr, end = mem_range_end(r);

	for (size_t i = finish_first_draft(all, sorted, from, addr); addr < end; i++) {
		const struct draft *d = i < sorted ? &all->v[i] : NULL;
		struct draft part;

		if (space == UINT32_MAX || !d || d->space != from || d->addr > addr)
			return err_set(err, EINVAL, "fork-shared pages: address space %llu has no page at 0x%llx",
				       (unsigned long long)of, (unsigned long long)addr);
		part = draft_part(d, addr, draft_end(d) < end ? draft_end(d) : end, space);
		addr += (uint64_t)part.npages * MEM_PAGE;
		drafts_push(all, &part);
	}
	return 0;
}

static int finish_add_fork_shared(const struct writer *w, struct drafts *all, struct err *err)
{
	const struct mem_fork_shared *s = w->o->fork_shared;
	const size_t sorted = all->n;

	for (size_t i = 0; s && i < s->n; i++)
		if (finish_copy_drafts(w, all, sorted, &s->v[i], s->of[i], err))
			return -1;
	if (all->n > sorted)
		qsort(all->v, all->n, sizeof(*all->v), draft_by_place);
	return 0;
}

/* ---- the drafts of all threads --------------------------------------------- */

static void finish_gather(struct drafts *all, const struct drafts *d)
{
	if (d->n > 0)
		memcpy(all->v + all->n, d->v, d->n * sizeof(*d->v));
	all->n += d->n;
}

static void finish_gather_drafts(const struct writer *w, struct drafts *all)
{
	size_t n = w->planned.n;

	for (int i = 0; i < w->threads; i++)
		n += w->drains[i].drafts.n;
	*all = (struct drafts){ .v = xmalloc((n + 1) * sizeof(*all->v)), .room = n + 1 };
	finish_gather(all, &w->planned);
	for (int i = 0; i < w->threads; i++)
		finish_gather(all, &w->drains[i].drafts);
	qsort(all->v, all->n, sizeof(*all->v), draft_by_place);
}

/* ---- files and chunks -------------------------------------------------- */

/* The numbers of chunks in the new image, by their numbers in the previous image and in the threads. */
struct renumber {
	uint32_t *old_chunk; /* per chunk of previous; MEM_ZERO: not used */
	uint32_t *new_base;  /* per thread: number of its first chunk */
};

static void finish_add_old_chunks(const struct writer *w, const struct drafts *all, struct mem_layout *l,
				  struct renumber *r)
{
	const struct mem_layout *old = &w->o->previous->l;
	cleanup_free uint32_t *file = xmalloc((old->n_files + 1) * sizeof(*file));

	for (size_t i = 0; i < old->n_files; i++)
		if (w->keep[i]) {
			file[i] = (uint32_t)l->n_files;
			l->files[l->n_files] = old->files[i];
			l->files[l->n_files++].own = false;
		}
	for (size_t i = 0; i < old->n_chunks; i++)
		r->old_chunk[i] = MEM_ZERO;
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].kind == DRAFT_OLD)
			r->old_chunk[all->v[i].chunk] = 0;
	for (size_t i = 0; i < old->n_chunks; i++)
		if (r->old_chunk[i] != MEM_ZERO) {
			r->old_chunk[i] = (uint32_t)l->n_chunks;
			l->chunks[l->n_chunks] = old->chunks[i];
			l->chunks[l->n_chunks++].file = file[old->chunks[i].file];
		}
}

static void finish_add_new_chunks(const struct writer *w, struct mem_layout *l, struct renumber *r)
{
	for (int i = 0; i < w->threads; i++) {
		const struct drain *d = &w->drains[i];

		r->new_base[i] = (uint32_t)l->n_chunks;
		if (d->n_chunks == 0)
			continue;
		for (size_t k = 0; k < d->n_chunks; k++) {
			l->chunks[l->n_chunks] = d->chunks[k];
			l->chunks[l->n_chunks++].file = (uint32_t)l->n_files;
		}
		l->files[l->n_files++] = (struct mem_file){
			.epoch = w->epoch, .index = w->first_index + (uint32_t)i, .size = d->file.written, .own = true
		};
	}
}

static int finish_add_chunks(const struct writer *w, const struct drafts *all, struct mem_layout *l, struct renumber *r,
			     struct err *err)
{
	const struct mem_layout *old = w->o->previous ? &w->o->previous->l : NULL;
	size_t files = (size_t)w->threads + (old ? old->n_files : 0), chunks = old ? old->n_chunks : 0;

	for (int i = 0; i < w->threads; i++)
		chunks += w->drains[i].n_chunks;
	if (chunks >= MEM_ZERO)
		return err_set(err, EFBIG, "the memory image has too many chunks");
	l->files = xcalloc(files, sizeof(*l->files));
	l->chunks = xcalloc(chunks + 1, sizeof(*l->chunks));
	r->old_chunk = xmalloc(((old ? old->n_chunks : 0) + 1) * sizeof(*r->old_chunk));
	r->new_base = xmalloc((size_t)w->threads * sizeof(*r->new_base));
	if (old)
		finish_add_old_chunks(w, all, l, r);
	finish_add_new_chunks(w, l, r);
	return 0;
}

/* ---- extents ----------------------------------------------------------- */

static bool extent_continues(const struct mem_extent *e, const struct mem_extent *next)
{
	if (e->addr + (uint64_t)e->npages * MEM_PAGE != next->addr || e->chunk != next->chunk ||
	    next->npages > UINT32_MAX - e->npages)
		return false;
	return e->chunk == MEM_ZERO || e->first + e->npages == next->first;
}

static void finish_add_extents(const struct writer *w, const struct drafts *all, struct mem_layout *l,
			       const struct renumber *r)
{
	struct mem_space *s = NULL;

	l->spaces = xcalloc(w->n_ids + 1, sizeof(*l->spaces));
	l->extents = xcalloc(all->n + 1, sizeof(*l->extents));
	for (size_t i = 0; i < all->n; i++) {
		const struct draft *d = &all->v[i];
		struct mem_extent e = { .addr = d->addr, .npages = d->npages, .chunk = MEM_ZERO, .first = d->first };

		if (d->kind == DRAFT_OLD)
			e.chunk = r->old_chunk[d->chunk];
		else if (d->kind == DRAFT_NEW)
			e.chunk = r->new_base[d->thread] + d->chunk;
		if (!s || s->id != w->ids[d->space]) {
			s = &l->spaces[l->n_spaces++];
			*s = (struct mem_space){ .id = w->ids[d->space], .first = l->n_extents };
		} else if (extent_continues(&l->extents[l->n_extents - 1], &e)) {
			l->extents[l->n_extents - 1].npages += e.npages;
			continue;
		}
		l->extents[l->n_extents++] = e;
		s->count++;
	}
}

/* ---- files ------------------------------------------------------------- */

static int finish_write_hashes(const struct writer *w, const struct drafts *all, const uint64_t sum[2], struct err *err)
{
	const struct mem_image *old = w->o->previous;
	cleanup_free struct mem_hash *v = NULL;
	uint64_t n = 0;

	for (size_t i = 0; i < all->n; i++)
		n += all->v[i].kind != DRAFT_ZERO ? all->v[i].npages : 0;
	v = xcalloc(n + 1, sizeof(*v));
	n = 0;
	for (size_t i = 0; i < all->n; i++) {
		const struct draft *d = &all->v[i];

		if (d->kind == DRAFT_ZERO)
			continue;
		if (d->hash != NO_HASH)
			memcpy(v + n, (d->kind == DRAFT_OLD ? old->hashes : w->drains[d->thread].hashes) + d->hash,
			       d->npages * sizeof(*v));
		n += d->npages;
	}
	return mem_hashes_write(w->dirfd, v, n, sum, err);
}

static int finish_write_image(const struct writer *w, const struct mem_layout *l, uint64_t sum[2], struct err *err)
{
	cleanup_free uint8_t *buf = NULL;
	cleanup_close int fd = -1;
	size_t len;

	buf = mem_layout_render(l, &len);
	mem_image_sum(buf, len, sum);
	fd = openat(w->dirfd, MEM_IMAGE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write_all(fd, buf, len) < 0 || fsync(fd) < 0)
		return err_sys(err, errno, "cannot write memory/" MEM_IMAGE_FILE);
	return 0;
}

int writer_finish_image(struct writer *w, struct err *err)
{
	struct drafts all = { 0 };
	struct mem_layout l = { .epoch = w->epoch };
	struct renumber r = { 0 };
	uint64_t sum[2];
	int rc;

	finish_gather_drafts(w, &all);
	rc = finish_add_fork_shared(w, &all, err) || finish_add_chunks(w, &all, &l, &r, err) ? -1 : 0;
	if (rc == 0) {
		finish_add_extents(w, &all, &l, &r);
		rc = finish_write_image(w, &l, sum, err);
	}
	if (rc == 0 && w->o->hashes)
		rc = finish_write_hashes(w, &all, sum, err);
	free(all.v);
	free(r.old_chunk);
	free(r.new_base);
	mem_layout_free(&l);
	return rc;
}
