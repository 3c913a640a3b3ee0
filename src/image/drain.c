/* The threads that read pages, drop what need not be stored, and store the rest. */
#include "image/writer_internal.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/util.h"
#include "image/xxh3.h"

#define TURN_PAGES  256u /* pages that a thread takes at a time */
#define TURN_PIECES 64u  /* from that many pieces at most */

/* ---- dealing out ------------------------------------------------------- */

static unsigned take_turn(struct writer *w, struct piece turn[TURN_PIECES])
{
	uint64_t room = TURN_PAGES;
	unsigned n = 0;

	pthread_mutex_lock(&w->lock);
	while (n < TURN_PIECES && room > 0 && w->next_piece < w->pieces.n) {
		const struct piece *p = &w->pieces.v[w->next_piece];
		uint64_t left = p->npages - w->next_page, take = left < room ? left : room;

		turn[n] = *p;
		turn[n].addr += w->next_page * MEM_PAGE;
		turn[n].first = (uint16_t)(p->first + w->next_page);
		turn[n++].npages = take;
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

static int store_chunk(struct writer *w, struct drain *d, struct err *err)
{
	size_t len = (size_t)d->n_pages * MEM_PAGE;
	struct mem_chunk c = { .npages = (uint16_t)d->n_pages };
	uint8_t *out;

	if (d->n_pages == 0)
		return 0;
	out = chunk_file_reserve(&d->file, w->dirfd, mem_encode_bound(MEM_CHUNK), err);
	if (!out)
		return -1;
	c.stored = (uint32_t)mem_encode(d->codec, d->pages, len, out, &c.format);
	mem_sum128(out, c.stored, c.sum);
	if (c.format.method != MEM_RAW)
		c.raw_sum = XXH3_64bits(d->pages, len);
	c.offset = chunk_file_append(&d->file, c.stored);
	if (d->n_chunks == d->chunks_room) {
		d->chunks_room = d->chunks_room ? d->chunks_room * 2 : 256;
		d->chunks = xrealloc(d->chunks, d->chunks_room * sizeof(*d->chunks));
	}
	d->chunks[d->n_chunks++] = c;
	d->stats.raw += len;
	d->stats.stored += c.stored;
	d->stats.chunks[c.format.transform][c.format.method]++;
	d->n_pages = 0;
	return 0;
}

static uint64_t keep_hash(struct writer *w, struct drain *d, const struct mem_hash *hash, const uint8_t *page)
{
	if (!w->o->hashes)
		return NO_HASH;
	if (d->n_hashes == d->hashes_room) {
		d->hashes_room = d->hashes_room ? d->hashes_room * 2 : 4096;
		d->hashes = xrealloc(d->hashes, d->hashes_room * sizeof(*d->hashes));
	}
	d->hashes[d->n_hashes] = hash ? *hash : mem_hash_page(page);
	return d->n_hashes++;
}

/* ---- looking ----------------------------------------------------------- */

static bool is_zero(const uint8_t *page)
{
	static const uint8_t zeros[64];

	return memcmp(page, zeros, sizeof(zeros)) == 0 && memcmp(page, page + 64, MEM_PAGE - 64) == 0;
}

/* Where in the previous image a thread is looking: it goes through addresses upwards. */
struct look {
	const struct mem_space *s;
	size_t extent;
};

/* The page with this hash at this address in the previous image: fills in the draft. */
static bool same_as_before(struct writer *w, struct look *k, uint64_t addr, const struct mem_hash *h, struct draft *d)
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

/* n pages of the piece lie behind those that are in the chunk already: keeps those that are to be stored. */
static void sift(struct writer *w, struct drain *d, const struct piece *p, unsigned n)
{
	bool compare = w->compare && p->chunk == MEM_ZERO;
	struct look look = { 0 };
	const uint8_t *page = d->pages + (size_t)d->n_pages * MEM_PAGE;
	struct mem_hash hash;

	if (compare) {
		look.s = mem_layout_space(&w->o->previous->l, w->ids[p->space]);
		look.extent = look.s ? mem_layout_seek(&w->o->previous->l, look.s, p->addr) : 0;
	}
	for (unsigned i = 0; i < n; i++, page += MEM_PAGE) {
		struct draft one = {
			.addr = p->addr + (uint64_t)i * MEM_PAGE, .space = p->space, .npages = 1, .hash = NO_HASH
		};

		if (is_zero(page)) {
			drafts_add(&d->drafts, &one);
			continue;
		}
		if (compare) {
			hash = mem_hash_page(page);
			if (same_as_before(w, &look, one.addr, &hash, &one)) {
				drafts_add(&d->drafts, &one);
				continue;
			}
		}
		one.kind = DRAFT_NEW;
		one.thread = (uint8_t)(d - w->drains);
		one.chunk = (uint32_t)d->n_chunks;
		one.first = (uint16_t)d->n_pages;
		one.hash = keep_hash(w, d, compare ? &hash : NULL, page);
		drafts_add(&d->drafts, &one);
		if (page != d->pages + (size_t)d->n_pages * MEM_PAGE)
			memcpy(d->pages + (size_t)d->n_pages * MEM_PAGE, page, MEM_PAGE);
		d->n_pages++;
	}
}

/* ---- reading ----------------------------------------------------------- */

static int read_failed(const struct writer *w, const struct piece *p, struct err *err)
{
	return err_sys(err, errno, "cannot read memory at 0x%llx of %llu", (unsigned long long)p->addr,
		       (unsigned long long)w->ids[p->space]);
}

static int read_one_by_one(struct writer *w, struct drain *d, const struct piece *p, uint8_t *to, unsigned n,
			   struct err *err)
{
	for (unsigned i = 0; i < n; i++, to += MEM_PAGE) {
		if (w->source->read(w->source->arg, w->ids[p->space], p->addr + (uint64_t)i * MEM_PAGE, to, MEM_PAGE) == 0)
			continue;
		if (errno != EFAULT)
			return read_failed(w, p, err);
		memset(to, 0, MEM_PAGE);
		d->stats.unreadable += MEM_PAGE;
	}
	return 0;
}

static int read_pages(struct writer *w, struct drain *d, const struct piece *p, unsigned n, struct err *err)
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
	return errno == EFAULT ? read_one_by_one(w, d, p, to, n, err) : read_failed(w, p, err);
}

static int drain_piece(struct writer *w, struct drain *d, struct piece p, struct err *err)
{
	while (p.npages > 0) {
		unsigned room = MEM_CHUNK_PAGES - d->n_pages, n = p.npages < room ? (unsigned)p.npages : room;

		if (!mem_team_goes_on(&w->team))
			return 0;
		if (read_pages(w, d, &p, n, err) < 0)
			return -1;
		sift(w, d, &p, n);
		p.addr += (uint64_t)n * MEM_PAGE;
		p.first = (uint16_t)(p.first + n);
		p.npages -= n;
		if (d->n_pages == MEM_CHUNK_PAGES && store_chunk(w, d, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- threads ----------------------------------------------------------- */

static int drain_thread(void *arg, int i, struct err *err)
{
	struct writer *w = arg;
	struct drain *d = &w->drains[i];
	struct piece turn[TURN_PIECES];
	unsigned n;

	while (mem_team_goes_on(&w->team) && (n = take_turn(w, turn)) > 0)
		for (unsigned k = 0; k < n; k++)
			if (drain_piece(w, d, turn[k], err) < 0)
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

static int finish_thread(void *arg, int i, struct err *err)
{
	struct writer *w = arg;
	struct drain *d = &w->drains[i];
	int64_t start;

	if (store_chunk(w, d, err) < 0)
		return -1;
	start = now_us();
	if (chunk_file_finish(&d->file, err) < 0)
		return -1;
	d->stats.sync_us = (uint64_t)(now_us() - start);
	return 0;
}

int writer_finish_files(struct writer *w, struct err *err)
{
	return mem_team_run(&w->team, w->threads, w->o->nice, finish_thread, w, err);
}
