/* The drain stage: threads that read pages, drop those that need not be stored, and store the rest. */
#include "image/writer_internal.h"

#include <errno.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/util.h"
#include "base/xxh3.h"

#define BATCH_PAGES  256u /* pages that a thread takes at a time */
#define BATCH_PIECES 64u  /* at most, from which it takes them */

/* ---- batches for the threads ------------------------------------------- */

static unsigned drain_take_batch(struct writer *w, struct piece batch[BATCH_PIECES])
{
	uint64_t room = BATCH_PAGES;
	unsigned n = 0;

	pthread_mutex_lock(&w->lock);
	while (n < BATCH_PIECES && room > 0 && w->next_piece < w->pieces.n) {
		const struct piece *p = &w->pieces.v[w->next_piece];
		uint64_t left = p->npages - w->next_page, take = left < room ? left : room;

		batch[n] = *p;
		batch[n].addr += w->next_page * MEM_PAGE;
		batch[n].first = (uint16_t)(p->first + w->next_page);
		batch[n++].npages = take;
		room -= take;
		w->next_page += take;
		if (take == left) {
			w->next_piece++;
			w->next_page = 0;
		}
	}
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* ---- storing ----------------------------------------------------------- */

static size_t drain_encode(struct writer *w, struct drain *d, size_t len, uint8_t *out, struct mem_format *format)
{
	const bool compressed = !w->paced || pace_compresses(&w->pace, &d->pace);
	const int64_t start = w->paced ? now_us() : 0;
	size_t n = compressed ? mem_encode(d->codec, d->pages, len, out, format)
			      : mem_encode_raw(d->pages, len, out, format);

	if (w->paced) {
		const int64_t now = now_us();

		pace_encoded(&w->pace, &d->pace, len, compressed, now - start, now);
	}
	return n;
}

static int drain_store_chunk(struct writer *w, struct drain *d, struct err *err)
{
	size_t len = (size_t)d->n_pages * MEM_PAGE;
	struct mem_chunk c = { .npages = (uint16_t)d->n_pages };
	uint8_t *out;

	if (d->n_pages == 0)
		return 0;
	out = chunk_file_reserve(&d->file, w->dirfd, mem_encode_bound(MEM_CHUNK), err);
	if (!out)
		return -1;
	c.stored = (uint32_t)drain_encode(w, d, len, out, &c.format);
	mem_sum128(out, c.stored, c.sum);
	if (c.format.compression != MEM_RAW)
		c.raw_sum = XXH3_64bits(d->pages, len);
	c.offset = chunk_file_append(&d->file, c.stored);
	array_reserve(d->chunks, d->n_chunks, d->chunks_room);
	d->chunks[d->n_chunks++] = c;
	d->stats.raw += len;
	d->stats.stored += c.stored;
	d->stats.chunks[c.format.transform][c.format.compression]++;
	d->n_pages = 0;
	return 0;
}

static uint64_t drain_keep_hash(struct writer *w, struct drain *d, const struct mem_hash *hash, const uint8_t *page)
{
	if (!w->o->hashes)
		return NO_HASH;
	array_reserve(d->hashes, d->n_hashes, d->hashes_room);
	d->hashes[d->n_hashes] = hash ? *hash : mem_hash_page(page);
	return d->n_hashes++;
}

/* ---- which pages must be stored ---------------------------------------- */

static bool drain_is_zero(const uint8_t *page)
{
	static const uint8_t zeros[64];

	return memcmp(page, zeros, sizeof(zeros)) == 0 && memcmp(page, page + 64, MEM_PAGE - 64) == 0;
}

/* A position in the previous image; it only moves to higher addresses. */
struct drain_cursor {
	const struct mem_space *s;
	size_t extent;
};

/* If the page at this address in the previous image has this hash, completes the draft with a reference to it. */
static bool drain_find_unchanged(struct writer *w, struct drain_cursor *k, uint64_t addr, const struct mem_hash *h,
				 struct draft *d)
{
	const struct mem_image *m = w->o->previous;
	const struct mem_extent *e;
	const struct mem_hash *old;
	uint64_t skip;

	while (k->s && k->extent < k->s->first + k->s->count &&
	       m->l.extents[k->extent].addr + (uint64_t)m->l.extents[k->extent].npages * MEM_PAGE <= addr)
		k->extent++;
	if (!k->s || k->extent >= k->s->first + k->s->count)
		return false;
	e = &m->l.extents[k->extent];
	if (e->addr > addr || e->chunk == MEM_ZERO)
		return false;
	skip = (addr - e->addr) / MEM_PAGE;
	old = &m->hashes[m->page_base[k->extent] + skip];
	if (old->low != h->low || old->high != h->high || (h->low == 0 && h->high == 0))
		return false;
	d->kind = DRAFT_OLD;
	d->chunk = e->chunk;
	d->first = (uint16_t)(e->first + skip);
	d->hash = w->o->hashes ? m->page_base[k->extent] + skip : NO_HASH;
	return true;
}

/* n pages of the piece have been read behind the d->n_pages pages of the chunk. Makes a draft for each, and moves those
 * that must be stored to the end of the chunk. */
static void drain_sift(struct writer *w, struct drain *d, const struct piece *p, unsigned n)
{
	bool compare = w->compare && p->chunk == MEM_ZERO;
	struct drain_cursor drain_cursor = { 0 };
	const uint8_t *page = d->pages + (size_t)d->n_pages * MEM_PAGE;
	struct mem_hash hash;

	if (compare) {
		drain_cursor.s = mem_layout_space(&w->o->previous->l, w->ids[p->space]);
		drain_cursor.extent = drain_cursor.s ? mem_layout_seek(&w->o->previous->l, drain_cursor.s, p->addr) : 0;
	}
	for (unsigned i = 0; i < n; i++, page += MEM_PAGE) {
		struct draft one = {
			.addr = p->addr + (uint64_t)i * MEM_PAGE, .space = p->space, .npages = 1, .hash = NO_HASH
		};

		if (drain_is_zero(page)) {
			drafts_add(&d->drafts, &one);
			continue;
		}
		if (compare) {
			hash = mem_hash_page(page);
			if (drain_find_unchanged(w, &drain_cursor, one.addr, &hash, &one)) {
				drafts_add(&d->drafts, &one);
				continue;
			}
		}
		one.kind = DRAFT_NEW;
		one.thread = (uint8_t)(d - w->drains);
		one.chunk = (uint32_t)d->n_chunks;
		one.first = (uint16_t)d->n_pages;
		one.hash = drain_keep_hash(w, d, compare ? &hash : NULL, page);
		drafts_add(&d->drafts, &one);
		if (page != d->pages + (size_t)d->n_pages * MEM_PAGE)
			memcpy(d->pages + (size_t)d->n_pages * MEM_PAGE, page, MEM_PAGE);
		d->n_pages++;
	}
}

/* ---- reading ----------------------------------------------------------- */

static int drain_read_failed(const struct writer *w, const struct piece *p, struct err *err)
{
	return err_sys(err, errno, "cannot read memory at 0x%llx of %llu", (unsigned long long)p->addr,
		       (unsigned long long)w->ids[p->space]);
}

static int drain_read_one_by_one(struct writer *w, struct drain *d, const struct piece *p, uint8_t *to, unsigned n,
				 struct err *err)
{
	for (unsigned i = 0; i < n; i++, to += MEM_PAGE) {
		if (w->source->read(w->source->arg, w->ids[p->space], p->addr + (uint64_t)i * MEM_PAGE, to, MEM_PAGE) == 0)
			continue;
		if (errno != EFAULT)
			return drain_read_failed(w, p, err);
		memset(to, 0, MEM_PAGE);
		d->stats.unreadable += MEM_PAGE;
	}
	return 0;
}

static int drain_read_pages(struct writer *w, struct drain *d, const struct piece *p, unsigned n, struct err *err)
{
	uint8_t *to = d->pages + (size_t)d->n_pages * MEM_PAGE;

	if (p->chunk != MEM_ZERO) {
		if (mem_chunk_read(&d->old, p->chunk, err) < 0)
			return -1;
		memcpy(to, d->old.pages + (size_t)p->first * MEM_PAGE, (size_t)n * MEM_PAGE);
		d->stats.rewritten += (uint64_t)n * MEM_PAGE;
		return 0;
	}
	d->stats.scanned += (uint64_t)n * MEM_PAGE;
	if (w->source->read(w->source->arg, w->ids[p->space], p->addr, to, (size_t)n * MEM_PAGE) == 0)
		return 0;
	return errno == EFAULT ? drain_read_one_by_one(w, d, p, to, n, err) : drain_read_failed(w, p, err);
}

static int drain_piece(struct writer *w, struct drain *d, struct piece p, struct err *err)
{
	while (p.npages > 0) {
		unsigned room = MEM_CHUNK_PAGES - d->n_pages, n = p.npages < room ? (unsigned)p.npages : room;

		if (!mem_team_goes_on(&w->team))
			return 0;
		if (drain_read_pages(w, d, &p, n, err) < 0)
			return -1;
		drain_sift(w, d, &p, n);
		p.addr += (uint64_t)n * MEM_PAGE;
		p.first = (uint16_t)(p.first + n);
		p.npages -= n;
		if (d->n_pages == MEM_CHUNK_PAGES && drain_store_chunk(w, d, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- threads ----------------------------------------------------------- */

static int drain_thread(void *arg, int i, struct err *err)
{
	struct writer *w = arg;
	struct drain *d = &w->drains[i];
	struct piece batch[BATCH_PIECES];
	unsigned n;

	while (mem_team_goes_on(&w->team) && (n = drain_take_batch(w, batch)) > 0)
		for (unsigned k = 0; k < n; k++)
			if (drain_piece(w, d, batch[k], err) < 0)
				return -1;
	return 0;
}

int writer_drain(struct writer *w, struct err *err)
{
	if (w->pieces.n == 0)
		return 0;
	w->next_piece = 0;
	w->next_page = 0;
	return mem_team_run(&w->team, w->threads, w->o->nice, drain_thread, w, err);
}

static int drain_finish_thread(void *arg, int i, struct err *err)
{
	struct writer *w = arg;
	struct drain *d = &w->drains[i];
	int64_t start;

	if (drain_store_chunk(w, d, err) < 0)
		return -1;
	start = now_us();
	if (chunk_file_finish(&d->file, err) < 0)
		return -1;
	d->stats.sync_us = (uint64_t)(now_us() - start);
	return 0;
}

int writer_finish_files(struct writer *w, struct err *err)
{
	return mem_team_run(&w->team, w->threads, w->o->nice, drain_finish_thread, w, err);
}
