#include "image/criu_export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "criu/criu_pagemap.h"
#include "image/image_internal.h"

#define COPY       (1u << 20)
#define FROM_IMAGE (1u << 31) /* together with criu's flags: the pages come from the image */

struct export
{
	struct mem_image *m;
	uint64_t id;
	struct criu_pagemap map; /* criu's list, filtered */
	uint64_t *at;            /* per entry: offset of its pages in the pages-N.img that is written */
	uint64_t *from;          /* per entry: offset of its pages in criu's pages-N.img */
	uint64_t size, criu_size;
	int out, in;              /* pages-N.img: ours, criu's (-1: none) */
	struct mem_range *wanted; /* pages that come from the image */
	size_t n_wanted;
};

static bool from_image(const struct criu_pagemap_entry *e)
{
	return e->flags & FROM_IMAGE;
}
static bool has_pages(const struct criu_pagemap_entry *e)
{
	return e->flags & (FROM_IMAGE | CRIU_PE_PRESENT);
}

/* ---- which pages ------------------------------------------------------- */

/* *inside: whether r contains addr. Returns the first address behind addr where that changes, at most end. */
static uint64_t export_next_edge(const struct mem_ranges *r, uint64_t addr, uint64_t end, bool *inside)
{
	size_t low = 0, high = r ? r->n : 0;
	uint64_t edge;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (mem_range_end(&r->v[mid]) <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	*inside = r && low < r->n && r->v[low].addr <= addr;
	edge = !r || low == r->n ? end : *inside ? mem_range_end(&r->v[low]) : r->v[low].addr;
	return edge < end ? edge : end;
}

static void export_filter_entry(const struct criu_pagemap_entry *e, const struct mem_criu_export_parts *parts,
				struct criu_pagemap *out)
{
	const uint64_t end = e->addr + e->npages * MEM_PAGE;

	for (uint64_t addr = e->addr, stop; addr < end; addr = stop) {
		struct criu_pagemap_entry piece = *e;
		bool parent, own;

		stop = export_next_edge(parts->parent, addr, end, &parent);
		stop = export_next_edge(parts->own, addr, stop, &own);
		if (!parent && !own && parts->own)
			continue;
		piece.addr = addr;
		piece.npages = (stop - addr) / MEM_PAGE;
		if (!parent)
			piece.flags = (e->flags & ~CRIU_PE_PARENT) | FROM_IMAGE;
		criu_pagemap_add(out, piece);
	}
}

void mem_criu_export_filter(struct criu_pagemap *map, const struct mem_criu_export_parts *parts)
{
	struct criu_pagemap out = { .pages_id = map->pages_id };

	for (size_t i = 0; i < map->n; i++) {
		if (map->v[i].flags & CRIU_PE_PARENT)
			export_filter_entry(&map->v[i], parts, &out);
		else
			criu_pagemap_add(&out, map->v[i]);
	}
	criu_pagemap_free(map);
	*map = out;
}

static int export_place_entries(struct export *x, struct err *err)
{
	x->at = xcalloc(x->map.n + 1, sizeof(*x->at));
	x->from = xcalloc(x->map.n + 1, sizeof(*x->from));
	x->wanted = xcalloc(x->map.n + 1, sizeof(*x->wanted));
	for (size_t i = 0; i < x->map.n; i++) {
		const struct criu_pagemap_entry *e = &x->map.v[i];
		uint64_t len = e->npages * MEM_PAGE;

		x->at[i] = x->size;
		x->from[i] = x->criu_size;
		if (!has_pages(e))
			continue;
		/* Entries are disjoint and below 2^63, so their sum is, too. */
		x->size += len;
		if (from_image(e))
			x->wanted[x->n_wanted++] = (struct mem_range){ .id = x->id, .addr = e->addr, .npages = e->npages };
		else
			x->criu_size += len;
	}
	return x->size > INT64_MAX ? err_set(err, EFBIG, "the pages of a process are too many for a file") : 0;
}

/* ---- out of the image -------------------------------------------------- */

static size_t export_entry_of(const struct export *x, uint64_t addr)
{
	size_t low = 0, high = x->map.n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (x->map.v[mid].addr + x->map.v[mid].npages * MEM_PAGE <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Each range of wanted is one entry, so the pages lie within one entry. */
static int export_write_pages(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	const struct export *x = arg;
	size_t i = export_entry_of(x, addr);

	(void)id;
	return pwrite_all(x->out, buf, len, x->at[i] + (addr - x->map.v[i].addr));
}

static int export_copy_from_image(struct export *x, const struct mem_read_opts *opts,
				  struct mem_criu_export_stats *stats, struct err *err)
{
	const struct mem_sink sink = { .write = export_write_pages, .arg = x }; /* zeros stay holes */
	struct mem_read_opts o = opts ? *opts : (struct mem_read_opts){ 0 };
	struct mem_read_stats s;
	uint64_t want = x->size - x->criu_size;

	o.only = x->wanted;
	o.n_only = x->n_wanted;
	if (mem_image_read_pages(x->m, &sink, &o, &s, err) < 0)
		return -1;
	if (s.pages + s.zero != want)
		return err_set(err, ENODATA, "the memory image lacks %llu pages of %llu",
			       (unsigned long long)((want - s.pages - s.zero) / MEM_PAGE), (unsigned long long)x->id);
	stats->from_image = s.pages;
	stats->zero = s.zero;
	return 0;
}

/* ---- out of criu's pages ----------------------------------------------- */

static int export_copy_entry(const struct export *x, size_t i, uint8_t *buf, struct err *err)
{
	uint64_t len = x->map.v[i].npages * MEM_PAGE;

	for (uint64_t done = 0; done < len;) {
		size_t n = len - done < COPY ? (size_t)(len - done) : COPY;

		if (pread_all(x->in, buf, n, x->from[i] + done) < 0)
			return errno == ENODATA
				       ? err_set(err, EBADMSG, "image pages-%u.img is too short", x->map.pages_id)
				       : err_sys(err, errno, "cannot read image pages-%u.img", x->map.pages_id);
		if (pwrite_all(x->out, buf, n, x->at[i] + done) < 0)
			return err_sys(err, errno, "cannot write image pages-%u.img", x->map.pages_id);
		done += n;
	}
	return 0;
}

static int export_copy_from_criu(const struct export *x, struct err *err)
{
	cleanup_free uint8_t *buf = xmalloc(COPY);

	for (size_t i = 0; i < x->map.n; i++)
		if (has_pages(&x->map.v[i]) && !from_image(&x->map.v[i]) && export_copy_entry(x, i, buf, err) < 0)
			return -1;
	return 0;
}

/* ---- all of it --------------------------------------------------------- */

static int export_open_pages(struct export *x, int images_fd, int out_fd, struct err *err)
{
	char name[40];

	snprintf(name, sizeof(name), "pages-%u.img", x->map.pages_id);
	x->in = x->criu_size > 0 ? openat(images_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (x->criu_size > 0 && x->in < 0)
		return err_sys(err, errno, "cannot read image %s", name);
	x->out = openat(out_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (x->out < 0 || ftruncate(x->out, (off_t)x->size) < 0)
		return err_sys(err, errno, "cannot write image %s", name);
	return 0;
}

static int export_store_map(struct export *x, int out_fd, const char *name, struct err *err)
{
	for (size_t i = 0; i < x->map.n; i++)
		if (from_image(&x->map.v[i]))
			x->map.v[i].flags = (x->map.v[i].flags & ~FROM_IMAGE) | CRIU_PE_PRESENT;
	return criu_pagemap_store(out_fd, name, &x->map, err);
}

static void export_end(struct export *x)
{
	if (x->in >= 0)
		close(x->in);
	if (x->out >= 0)
		close(x->out);
	criu_pagemap_free(&x->map);
	free(x->at);
	free(x->from);
	free(x->wanted);
}

int mem_criu_export_pages(struct mem_image *m, uint64_t id, int pid, int images_fd, int out_fd,
			  const struct mem_criu_export_parts *parts, const struct mem_read_opts *opts,
			  struct mem_criu_export_stats *stats, struct err *err)
{
	static const struct mem_criu_export_parts all;
	struct export x = { .m = m, .id = id, .in = -1, .out = -1 };
	struct mem_criu_export_stats s = { 0 };
	char name[40];
	int rc = -1;

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	if (criu_pagemap_load(images_fd, name, &x.map, err) == 0) {
		mem_criu_export_filter(&x.map, parts ? parts : &all);
		if (export_place_entries(&x, err) == 0 && export_open_pages(&x, images_fd, out_fd, err) == 0 &&
		    export_copy_from_image(&x, opts, &s, err) == 0 && export_copy_from_criu(&x, err) == 0)
			rc = export_store_map(&x, out_fd, name, err);
	}
	s.from_criu = x.criu_size;
	if (stats)
		*stats = s;
	export_end(&x);
	return rc;
}

/* ---- shared memory ------------------------------------------------------ */

/* criu's list of the object is empty because all its data is in the image. Makes a list of the data pages; pages that
 * are not listed are zero. */
static int export_list_data(struct export *x, struct err *err)
{
	size_t n;
	const struct mem_extent *e = mem_image_extents(x->m, x->id, &n);

	if (x->map.n)
		return err_set(err, EBADMSG,
			       "both criu's images and the memory image contain the data of this shared memory");
	free(x->map.v);
	x->map.v = xcalloc(n + 1, sizeof(*x->map.v));
	for (size_t i = 0; i < n; i++) {
		struct criu_pagemap_entry *last = x->map.n ? &x->map.v[x->map.n - 1] : NULL;

		if (e[i].chunk == MEM_ZERO)
			continue;
		if (last && last->addr + last->npages * MEM_PAGE == e[i].addr)
			last->npages += e[i].npages;
		else
			x->map.v[x->map.n++] = (struct criu_pagemap_entry){ e[i].addr, e[i].npages, FROM_IMAGE };
	}
	return 0;
}

int mem_criu_export_shared(struct mem_image *m, uint64_t id, const char *name, int images_fd, int out_fd,
			   const struct mem_read_opts *opts, struct err *err)
{
	struct export x = { .m = m, .id = id, .in = -1, .out = -1 };
	struct mem_criu_export_stats s = { 0 };
	int rc = -1;

	if (criu_pagemap_load(images_fd, name, &x.map, err) == 0 && export_list_data(&x, err) == 0 &&
	    export_place_entries(&x, err) == 0 && export_open_pages(&x, images_fd, out_fd, err) == 0 &&
	    export_copy_from_image(&x, opts, &s, err) == 0)
		rc = export_store_map(&x, out_fd, name, err);
	export_end(&x);
	return rc;
}
