/* The file "image". Little-endian; it consists of records of fixed sizes in this order:
 *
 *   record  bytes  content
 *   header  64     magic "FSCHEDMI", u32 version, u32 page size, u32 epoch,
 *                  u32 files, u32 chunks, u32 spaces, u64 extents, zeros
 *   file    32     u32 epoch, u32 index, u64 size, u32 flags (1: own), zeros
 *   chunk   48     u64 offset, u32 file, u32 stored, u16 npages,
 *                  u8 transform, u8 compression, u32 0,
 *                  u64 sum low, u64 sum high, u64 raw sum
 *   space   24     u64 id, u64 first, u64 count
 *   extent  24     u64 addr, u32 npages, u32 chunk, u16 first, zeros
 *   sum     16     XXH3-128 of all bytes before: u64 low, u64 high
 *
 * The numbers files, chunks, spaces and extents of the header say how many records of each kind follow. */
#include "image/image_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "base/xxh3.h"

#define MAGIC    "FSCHEDMI"
#define VERSION  1u
#define HEADER   64u
#define FILE_    32u
#define CHUNK    48u
#define SPACE    24u
#define EXTENT   24u
#define SUM      16u

#define FLAG_OWN 1u
#define ADDR_MAX (UINT64_C(1) << 63)

void mem_sum128(const void *buf, size_t len, uint64_t sum[2])
{
	XXH128_hash_t h = XXH3_128bits(buf, len);

	sum[0] = h.low64;
	sum[1] = h.high64;
}

void mem_layout_free(struct mem_layout *l)
{
	free(l->files);
	free(l->chunks);
	free(l->spaces);
	free(l->extents);
	memset(l, 0, sizeof(*l));
}

/* ---- bytes ------------------------------------------------------------- */

static void put16(uint8_t **p, uint16_t v)
{
	v = htole16(v);
	memcpy(*p, &v, 2);
	*p += 2;
}
static void put32(uint8_t **p, uint32_t v)
{
	v = htole32(v);
	memcpy(*p, &v, 4);
	*p += 4;
}
static void put64(uint8_t **p, uint64_t v)
{
	v = htole64(v);
	memcpy(*p, &v, 8);
	*p += 8;
}

static uint16_t get16(const uint8_t **p)
{
	uint16_t v;
	memcpy(&v, *p, 2);
	*p += 2;
	return le16toh(v);
}
static uint32_t get32(const uint8_t **p)
{
	uint32_t v;
	memcpy(&v, *p, 4);
	*p += 4;
	return le32toh(v);
}
static uint64_t get64(const uint8_t **p)
{
	uint64_t v;
	memcpy(&v, *p, 8);
	*p += 8;
	return le64toh(v);
}

/* Reserved bytes must be zero, so that a later version can use them. */
static bool get_zeros(const uint8_t **p, size_t n)
{
	bool zero = true;

	while (n-- > 0)
		zero &= *(*p)++ == 0;
	return zero;
}

/* ---- writing ----------------------------------------------------------- */

static void put_header(uint8_t **p, const struct mem_layout *l)
{
	memcpy(*p, MAGIC, 8);
	*p += 8;
	put32(p, VERSION);
	put32(p, MEM_PAGE);
	put32(p, l->epoch);
	put32(p, (uint32_t)l->n_files);
	put32(p, (uint32_t)l->n_chunks);
	put32(p, (uint32_t)l->n_spaces);
	put64(p, l->n_extents);
	*p += HEADER - 40;
}

static void put_chunk(uint8_t **p, const struct mem_chunk *c)
{
	put64(p, c->offset);
	put32(p, c->file);
	put32(p, c->stored);
	put16(p, c->npages);
	*(*p)++ = c->format.transform;
	*(*p)++ = c->format.compression;
	put32(p, 0);
	put64(p, c->sum[0]);
	put64(p, c->sum[1]);
	put64(p, c->raw_sum);
}

static void put_extent(uint8_t **p, const struct mem_extent *e)
{
	put64(p, e->addr);
	put32(p, e->npages);
	put32(p, e->chunk);
	put16(p, e->first);
	*p += 6;
}

uint8_t *mem_layout_render(const struct mem_layout *l, size_t *len)
{
	uint8_t *buf, *p;
	uint64_t sum[2];

	*len = HEADER + l->n_files * FILE_ + l->n_chunks * CHUNK + l->n_spaces * SPACE + l->n_extents * EXTENT + SUM;
	p = buf = xcalloc(1, *len);
	put_header(&p, l);
	for (size_t i = 0; i < l->n_files; i++) {
		put32(&p, l->files[i].epoch);
		put32(&p, l->files[i].index);
		put64(&p, l->files[i].size);
		put32(&p, l->files[i].own ? FLAG_OWN : 0);
		p += FILE_ - 20;
	}
	for (size_t i = 0; i < l->n_chunks; i++)
		put_chunk(&p, &l->chunks[i]);
	for (size_t i = 0; i < l->n_spaces; i++) {
		put64(&p, l->spaces[i].id);
		put64(&p, l->spaces[i].first);
		put64(&p, l->spaces[i].count);
	}
	for (size_t i = 0; i < l->n_extents; i++)
		put_extent(&p, &l->extents[i]);
	mem_sum128(buf, *len - SUM, sum);
	put64(&p, sum[0]);
	put64(&p, sum[1]);
	return buf;
}

/* ---- reading ----------------------------------------------------------- */

static int format_damaged(struct err *err, const char *what)
{
	return err_set(err, EBADMSG, "the memory image is damaged: %s", what);
}

static int get_header(const uint8_t **p, size_t len, struct mem_layout *l, struct err *err)
{
	uint64_t need = HEADER + SUM;
	uint32_t version, page;

	if (len < HEADER + SUM || memcmp(*p, MAGIC, 8) != 0)
		return format_damaged(err, "it does not begin with the magic number of one");
	*p += 8;
	version = get32(p);
	if (version != VERSION)
		return err_set(err, ENOTSUP,
			       "the memory image has version %u, which this version of fsched does not know", version);
	page = get32(p);
	if (page != MEM_PAGE)
		return err_set(err, ENOTSUP, "the memory image has pages of %u bytes", page);
	l->epoch = get32(p);
	l->n_files = get32(p);
	l->n_chunks = get32(p);
	l->n_spaces = get32(p);
	l->n_extents = get64(p);
	/* No overflow: the three numbers are below 2^32. */
	need += (uint64_t)l->n_files * FILE_ + (uint64_t)l->n_chunks * CHUNK + (uint64_t)l->n_spaces * SPACE;
	if (!get_zeros(p, HEADER - 40) || need > len || l->n_extents != (len - need) / EXTENT ||
	    (len - need) % EXTENT != 0)
		return format_damaged(err, "its size does not match the numbers in its header");
	return 0;
}

static int get_files(const uint8_t **p, struct mem_layout *l, struct err *err)
{
	l->files = xcalloc(l->n_files + 1, sizeof(*l->files));
	for (size_t i = 0; i < l->n_files; i++) {
		struct mem_file *f = &l->files[i];
		uint32_t flags;

		f->epoch = get32(p);
		f->index = get32(p);
		f->size = get64(p);
		flags = get32(p);
		f->own = flags & FLAG_OWN;
		if (!get_zeros(p, FILE_ - 20) || flags & ~FLAG_OWN || f->size == 0 || f->size > INT64_MAX)
			return format_damaged(err, "the entry of a chunk file is invalid");
		if (f->epoch > l->epoch || (f->own && f->epoch != l->epoch))
			return format_damaged(err, "it refers to a chunk file of a later epoch");
		if (i > 0 && (f[-1].epoch > f->epoch || (f[-1].epoch == f->epoch && f[-1].index >= f->index)))
			return format_damaged(err, "its chunk files are not in ascending order");
	}
	return 0;
}

static bool chunk_fits(const struct mem_layout *l, const struct mem_chunk *c)
{
	uint64_t raw = (uint64_t)c->npages * MEM_PAGE;

	if (c->file >= l->n_files || c->npages == 0 || c->npages > MEM_CHUNK_PAGES || c->stored == 0 || c->stored > raw)
		return false;
	if (c->format.transform >= MEM_TRANSFORMS || c->format.compression >= MEM_COMPRESSIONS)
		return false;
	if (c->format.compression == MEM_RAW && (c->stored != raw || c->format.transform != MEM_PLAIN || c->raw_sum != 0))
		return false;
	return c->offset <= l->files[c->file].size && c->stored <= l->files[c->file].size - c->offset;
}

/* Chunks must not overlap, and those in a file of this image must follow each other without gaps. before: NULL for the
 * first chunk. */
static bool chunk_follows(const struct mem_layout *l, const struct mem_chunk *before, const struct mem_chunk *c)
{
	bool same = before && before->file == c->file;
	uint64_t end = same ? before->offset + before->stored : 0;

	if (before && before->file > c->file)
		return false;
	return l->files[c->file].own ? c->offset == end : c->offset >= end;
}

static int get_chunks(const uint8_t **p, struct mem_layout *l, struct err *err)
{
	cleanup_free uint64_t *covered = xcalloc(l->n_files + 1, sizeof(*covered));

	l->chunks = xcalloc(l->n_chunks + 1, sizeof(*l->chunks));
	for (size_t i = 0; i < l->n_chunks; i++) {
		struct mem_chunk *c = &l->chunks[i];

		c->offset = get64(p);
		c->file = get32(p);
		c->stored = get32(p);
		c->npages = get16(p);
		c->format.transform = *(*p)++;
		c->format.compression = *(*p)++;
		if (get32(p) != 0)
			return format_damaged(err, "the entry of a chunk is invalid");
		c->sum[0] = get64(p);
		c->sum[1] = get64(p);
		c->raw_sum = get64(p);
		if (!chunk_fits(l, c) || !chunk_follows(l, i > 0 ? c - 1 : NULL, c))
			return format_damaged(err, "the entry of a chunk is invalid");
		covered[c->file] += c->stored;
	}
	for (size_t i = 0; i < l->n_files; i++)
		if (l->files[i].own && covered[i] != l->files[i].size)
			return format_damaged(err, "a chunk file has bytes that belong to no chunk");
	return 0;
}

static int get_spaces(const uint8_t **p, struct mem_layout *l, struct err *err)
{
	uint64_t next = 0;

	l->spaces = xcalloc(l->n_spaces + 1, sizeof(*l->spaces));
	for (size_t i = 0; i < l->n_spaces; i++) {
		struct mem_space *s = &l->spaces[i];

		s->id = get64(p);
		s->first = get64(p);
		s->count = get64(p);
		if (s->first != next || s->count > l->n_extents - next || (i > 0 && s[-1].id >= s->id))
			return format_damaged(err, "the entry of an address space is invalid");
		next += s->count;
	}
	return next == l->n_extents ? 0 : format_damaged(err, "it has extents that belong to no address space");
}

static bool extent_fits(const struct mem_layout *l, const struct mem_extent *e, uint64_t floor)
{
	if (e->addr % MEM_PAGE != 0 || e->addr < floor || e->npages == 0)
		return false;
	if (e->addr > ADDR_MAX || (uint64_t)e->npages * MEM_PAGE > ADDR_MAX - e->addr)
		return false;
	if (e->chunk == MEM_ZERO)
		return e->first == 0;
	return e->chunk < l->n_chunks && e->first < l->chunks[e->chunk].npages &&
	       e->npages <= (uint32_t)(l->chunks[e->chunk].npages - e->first);
}

static int get_extents(const uint8_t **p, struct mem_layout *l, struct err *err)
{
	l->extents = xcalloc(l->n_extents + 1, sizeof(*l->extents));
	for (size_t s = 0; s < l->n_spaces; s++) {
		uint64_t floor = 0;

		for (uint64_t i = 0; i < l->spaces[s].count; i++) {
			struct mem_extent *e = &l->extents[l->spaces[s].first + i];

			e->addr = get64(p);
			e->npages = get32(p);
			e->chunk = get32(p);
			e->first = get16(p);
			if (!get_zeros(p, 6) || !extent_fits(l, e, floor))
				return format_damaged(err, "the entry of an extent is invalid");
			floor = e->addr + (uint64_t)e->npages * MEM_PAGE;
		}
	}
	return 0;
}

void mem_image_sum(const uint8_t *buf, size_t len, uint64_t sum[2])
{
	const uint8_t *p = buf + len - SUM;

	sum[0] = get64(&p);
	sum[1] = get64(&p);
}

static bool sum_fits(const uint8_t *buf, size_t len)
{
	uint64_t is[2], says[2];

	mem_sum128(buf, len - SUM, is);
	mem_image_sum(buf, len, says);
	return is[0] == says[0] && is[1] == says[1];
}

int mem_layout_parse(const uint8_t *buf, size_t len, struct mem_layout *l, struct err *err)
{
	const uint8_t *p = buf;

	memset(l, 0, sizeof(*l));
	if (get_header(&p, len, l, err) < 0)
		goto fail;
	if (!sum_fits(buf, len)) {
		format_damaged(err, "its checksum differs");
		goto fail;
	}
	if (get_files(&p, l, err) == 0 && get_chunks(&p, l, err) == 0 && get_spaces(&p, l, err) == 0 &&
	    get_extents(&p, l, err) == 0)
		return 0;
fail:
	mem_layout_free(l);
	return -1;
}

/* ---- lookup ------------------------------------------------------------ */

const struct mem_space *mem_layout_space(const struct mem_layout *l, uint64_t id)
{
	size_t low = 0, high = l->n_spaces;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->spaces[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < l->n_spaces && l->spaces[low].id == id ? &l->spaces[low] : NULL;
}

size_t mem_layout_seek(const struct mem_layout *l, const struct mem_space *s, uint64_t addr)
{
	size_t low = s->first, high = s->first + s->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->extents[mid].addr + (uint64_t)l->extents[mid].npages * MEM_PAGE <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint64_t *mem_layout_page_bases(const struct mem_layout *l)
{
	uint64_t *base = xmalloc((l->n_extents + 1) * sizeof(*base)), n = 0;

	for (size_t i = 0; i < l->n_extents; i++) {
		base[i] = n;
		if (l->extents[i].chunk != MEM_ZERO)
			n += l->extents[i].npages;
	}
	base[l->n_extents] = n;
	return base;
}

size_t mem_layout_run(const struct mem_layout *l, const uint32_t *chunks, size_t n, uint64_t max, uint64_t *end)
{
	const struct mem_chunk *c = &l->chunks[chunks[0]];
	size_t i = 1;

	*end = c->offset + c->stored;
	while (i < n && l->chunks[chunks[i]].file == c->file && l->chunks[chunks[i]].offset == *end &&
	       *end + l->chunks[chunks[i]].stored - c->offset <= max)
		*end += l->chunks[chunks[i++]].stored;
	return i;
}
