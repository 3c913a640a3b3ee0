/* Hands the pages of an image out to a sink, chunk by chunk. */
#include "image/image.h"
#include "image/image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"

/* A part of an extent that is wanted. */
struct part {
	uint64_t id, addr;
	uint32_t npages, chunk;
	uint16_t first;
};

struct page_read {
	struct mem_image *m;
	const struct mem_sink *sink;
	struct mem_team team;
	struct part *parts; /* ascending by chunk; those of zeros last */
	size_t n_parts, n_data;
	uint32_t *chunks; /* that have wanted parts */
	size_t *begin;    /* per chunk: index of its first part; one more at the end */
	size_t n_chunks;
	atomic_size_t next; /* index into chunks */
	atomic_uint_fast64_t read, pages, zero;
};

/* ---- which pages are wanted -------------------------------------------- */

typedef void part_fn(void *arg, const struct part *p);

static void read_clip_extent(const struct mem_space *s, const struct mem_extent *e, uint64_t from, uint64_t to,
			     part_fn *fn, void *arg)
{
	uint64_t end = e->addr + (uint64_t)e->npages * MEM_PAGE, addr = e->addr > from ? e->addr : from,
		 stop = end < to ? end : to;
	struct part p = { .id = s->id, .addr = addr, .chunk = e->chunk, .first = e->first };

	if (addr >= stop)
		return;
	p.npages = (uint32_t)((stop - addr) / MEM_PAGE);
	if (e->chunk != MEM_ZERO)
		p.first = (uint16_t)(e->first + (addr - e->addr) / MEM_PAGE);
	fn(arg, &p);
}

static void read_each_part_of(const struct mem_layout *l, const struct mem_space *s, uint64_t from, uint64_t to,
			      part_fn *fn, void *arg)
{
	for (size_t i = mem_layout_seek(l, s, from); i < s->first + s->count && l->extents[i].addr < to; i++)
		read_clip_extent(s, &l->extents[i], from, to, fn, arg);
}

static void read_each_part(const struct mem_layout *l, const struct mem_read_opts *o, part_fn *fn, void *arg)
{
	if (!o || !o->only) {
		for (size_t i = 0; i < l->n_spaces; i++)
			read_each_part_of(l, &l->spaces[i], 0, UINT64_MAX, fn, arg);
		return;
	}
	for (size_t i = 0; i < o->n_only; i++) {
		const struct mem_range *r = &o->only[i];
		const struct mem_space *s = mem_layout_space(l, r->id);

		if (s)
			read_each_part_of(l, s, r->addr, mem_range_end(r), fn, arg);
	}
}

/* A counting sort by chunk: at is the number of parts of each chunk first, then the index of the next one. */
struct part_sorting {
	struct page_read *f;
	size_t *at;
};

static size_t read_slot(const struct page_read *f, const struct part *p)
{
	return p->chunk == MEM_ZERO ? f->m->l.n_chunks : p->chunk;
}

static void read_count_part(void *arg, const struct part *p)
{
	struct part_sorting *s = arg;

	s->at[read_slot(s->f, p)]++;
}

static void read_place_part(void *arg, const struct part *p)
{
	struct part_sorting *s = arg;

	s->f->parts[s->at[read_slot(s->f, p)]++] = *p;
}

static void read_sort_parts(struct page_read *f, const struct mem_read_opts *o)
{
	size_t n = f->m->l.n_chunks, sum = 0;
	cleanup_free size_t *at = xcalloc(n + 1, sizeof(*at));
	struct part_sorting s = { .f = f, .at = at };

	read_each_part(&f->m->l, o, read_count_part, &s);
	f->chunks = xmalloc((n + 1) * sizeof(*f->chunks));
	f->begin = xmalloc((n + 1) * sizeof(*f->begin));
	for (size_t i = 0; i <= n; i++) {
		size_t count = at[i];

		if (i < n && count > 0) {
			f->chunks[f->n_chunks] = (uint32_t)i;
			f->begin[f->n_chunks++] = sum;
		}
		if (i == n)
			f->begin[f->n_chunks] = f->n_data = sum;
		at[i] = sum;
		sum += count;
	}
	f->n_parts = sum;
	f->parts = xmalloc((sum + 1) * sizeof(*f->parts));
	read_each_part(&f->m->l, o, read_place_part, &s);
}

/* ---- handing out ------------------------------------------------------- */

static int read_sink_failed(const struct part *p, struct err *err)
{
	return err_sys(err, errno, "cannot fill memory at 0x%llx of %llu", (unsigned long long)p->addr,
		       (unsigned long long)p->id);
}

static int read_hand_out(struct page_read *f, struct mem_chunk_reader *r, size_t i, struct err *err)
{
	uint64_t pages = 0;

	if (mem_chunk_read(r, f->chunks[i], err) < 0)
		return -1;
	for (size_t k = f->begin[i]; k < f->begin[i + 1]; k++) {
		const struct part *p = &f->parts[k];

		if (f->sink->write(f->sink->arg, p->id, p->addr, r->pages + (size_t)p->first * MEM_PAGE,
				   (size_t)p->npages * MEM_PAGE) < 0)
			return read_sink_failed(p, err);
		pages += (uint64_t)p->npages * MEM_PAGE;
	}
	atomic_fetch_add(&f->pages, pages);
	return 0;
}

static int read_hand_out_zeros(struct page_read *f, struct err *err)
{
	uint64_t zero = 0;

	for (size_t k = f->n_data; k < f->n_parts; k++) {
		const struct part *p = &f->parts[k];
		uint64_t len = (uint64_t)p->npages * MEM_PAGE;

		if (!mem_team_goes_on(&f->team))
			return 0;
		if (f->sink->zero && f->sink->zero(f->sink->arg, p->id, p->addr, len) < 0)
			return read_sink_failed(p, err);
		zero += len;
	}
	atomic_fetch_add(&f->zero, zero);
	return 0;
}

/* Asks the kernel to read all chunks of a batch, so that it reads them while the first is decoded. */
static void read_start_batch(const struct page_read *f, size_t from, size_t to)
{
	const struct mem_layout *l = &f->m->l;
	uint64_t end;

	for (size_t i = from, n; i < to; i += n) {
		const struct mem_chunk *c = &l->chunks[f->chunks[i]];

		n = mem_layout_run(l, &f->chunks[i], to - i, UINT64_MAX, &end);
		posix_fadvise(f->m->fds[c->file], (off_t)c->offset, (off_t)(end - c->offset), POSIX_FADV_WILLNEED);
	}
}

static int read_chunks(struct page_read *f, struct mem_chunk_reader *r, struct err *err)
{
	size_t from;

	while ((from = atomic_fetch_add(&f->next, MEM_BATCH_CHUNKS)) < f->n_chunks) {
		size_t to = from + MEM_BATCH_CHUNKS < f->n_chunks ? from + MEM_BATCH_CHUNKS : f->n_chunks;

		read_start_batch(f, from, to);
		for (size_t i = from; i < to; i++) {
			if (!mem_team_goes_on(&f->team))
				return 0;
			if (read_hand_out(f, r, i, err) < 0)
				return -1;
		}
	}
	return 0;
}

static int read_thread(void *arg, int i, struct err *err)
{
	struct page_read *f = arg;
	struct mem_chunk_reader r;
	int rc;

	if (i == 0 && read_hand_out_zeros(f, err) < 0)
		return -1;
	mem_chunk_reader_init(&r, f->m);
	rc = read_chunks(f, &r, err);
	atomic_fetch_add(&f->read, r.bytes_read);
	mem_chunk_reader_free(&r);
	return rc;
}

static int read_check_only(const struct mem_read_opts *o, struct err *err)
{
	for (size_t i = 0; o && o->only && i < o->n_only; i++) {
		const struct mem_range *r = &o->only[i];

		if (r->addr % MEM_PAGE != 0 || r->npages > (UINT64_MAX - r->addr) / MEM_PAGE ||
		    (i > 0 && (r[-1].id > r->id || (r[-1].id == r->id && r[-1].addr + r[-1].npages * MEM_PAGE > r->addr))))
			return err_set(err, EINVAL, "pages to fill: ranges overlap or are not ascending");
	}
	return 0;
}

int mem_image_read_pages(struct mem_image *m, const struct mem_sink *sink, const struct mem_read_opts *opts,
			 struct mem_read_stats *stats, struct err *err)
{
	struct page_read f = { .m = m, .sink = sink };
	int rc;

	if (read_check_only(opts, err) < 0)
		return -1;
	mem_team_init(&f.team, opts ? opts->cancel : NULL);
	read_sort_parts(&f, opts);
	rc = mem_team_run(&f.team, mem_threads(opts ? opts->threads : 0), 0, read_thread, &f, err);
	if (stats)
		*stats = (struct mem_read_stats){ .read = atomic_load(&f.read),
						  .pages = atomic_load(&f.pages),
						  .zero = atomic_load(&f.zero),
						  .cpu_us = atomic_load(&f.team.cpu_us) };
	free(f.parts);
	free(f.chunks);
	free(f.begin);
	return rc;
}
