#include "capture/split.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "base/vmas.h"

#define AROUND 16u /* pages on either side of a fixed address */

struct builder {
	struct mem_split *p;
	struct vmas vmas;
	const uint64_t *fixed;
	size_t n_fixed;
	size_t kept_room, ours_room;
};

static void split_append(struct mem_range **v, size_t *n, size_t *room, struct mem_range r)
{
	array_reserve(*v, *n, *room);
	(*v)[(*n)++] = r;
}

static void split_add(struct builder *b, bool ours, uint64_t start, uint64_t end)
{
	struct mem_split *p = b->p;
	struct mem_range r = { (uint64_t)p->inner, start, (end - start) / MEM_PAGE };

	if (start == end)
		return;
	if (ours) {
		split_append(&p->ours, &p->n_ours, &b->ours_room, r);
		p->our_pages += r.npages;
	} else {
		split_append(&p->kept, &p->n_kept, &b->kept_room, r);
		p->kept_pages += r.npages;
	}
}

/* The first fixed address that is in [start, end) or within AROUND pages of it; NULL if there is none. */
static const uint64_t *split_first_fixed(const struct builder *b, uint64_t start, uint64_t end)
{
	size_t low = 0, high = b->n_fixed;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (b->fixed[mid] / MEM_PAGE + AROUND < start / MEM_PAGE)
			low = mid + 1;
		else
			high = mid;
	}
	return low < b->n_fixed && b->fixed[low] / MEM_PAGE < end / MEM_PAGE + AROUND ? &b->fixed[low] : NULL;
}

static uint64_t split_clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

static void split_add_piece(struct builder *b, uint64_t start, uint64_t end)
{
	split_add(b, (end - start) / MEM_PAGE >= MEM_PIECE_MIN, start, end);
}

/* Splits pages of one plain mapping. */
static void split_mapping(struct builder *b, uint64_t start, uint64_t end)
{
	while (start < end) {
		const uint64_t *f = split_first_fixed(b, start, end);
		uint64_t page = f ? *f / MEM_PAGE * MEM_PAGE : 0, room = (uint64_t)AROUND * MEM_PAGE;
		uint64_t low = f ? split_clamp(page < room ? 0 : page - room, start, end) : end;
		uint64_t high = f ? split_clamp(page + room + MEM_PAGE, low, end) : end;

		split_add_piece(b, start, low);
		split_add(b, false, low, high);
		start = high;
	}
}

/* Splits an entry of criu's list, which may extend over several mappings. */
static void split_add_entry(struct builder *b, uint64_t start, uint64_t end)
{
	while (start < end) {
		const struct vma *v = vmas_find(&b->vmas, start);
		bool inside = v && v->start <= start;
		uint64_t stop = !v ? end : inside ? v->end : v->start;

		stop = stop < end ? stop : end;
		if (inside && v->plain)
			split_mapping(b, start, stop);
		else
			split_add(b, false, start, stop);
		start = stop;
	}
}

int mem_split_make(struct mem_split *p, int images_fd, pid_t inner, pid_t host, const uint64_t *fixed, size_t n_fixed,
		   struct err *err)
{
	struct builder b = { .p = p, .fixed = fixed, .n_fixed = n_fixed };
	char name[32];

	*p = (struct mem_split){ .inner = inner, .host = host };
	snprintf(name, sizeof(name), "pagemap-%d.img", inner);
	if (criu_pagemap_load(images_fd, name, &p->criu, err))
		return -1;
	if (vmas_read(host, &b.vmas, err)) {
		mem_split_free(p);
		return -1;
	}
	for (size_t i = 0; i < p->criu.n; i++) {
		const struct criu_pagemap_entry *e = &p->criu.v[i];

		if (e->flags & CRIU_PE_PARENT)
			split_add_entry(&b, e->addr, e->addr + e->npages * MEM_PAGE);
	}
	vmas_free(&b.vmas);
	return 0;
}

void mem_split_free(struct mem_split *p)
{
	criu_pagemap_free(&p->criu);
	free(p->kept);
	free(p->ours);
	*p = (struct mem_split){ 0 };
}

/* ---- criu's images with the kept pages in them ---------------------------- */

struct split_merge {
	const struct mem_split *p;
	const uint8_t *kept; /* the next bytes */
	int old, new;        /* pages-N.img */
	uint64_t old_at;     /* offset of the next entry's pages in old */
	struct criu_pagemap out;
	size_t i_kept, i_ours;
};

static int split_copy_old(struct split_merge *m, uint64_t len)
{
	char buf[65536];

	while (len > 0) {
		size_t n = len < sizeof(buf) ? (size_t)len : sizeof(buf);
		ssize_t got = pread(m->old, buf, n, (off_t)m->old_at);

		if (got <= 0) {
			errno = got < 0 ? errno : EBADMSG;
			return -1;
		}
		if (write_all(m->new, buf, (size_t)got))
			return -1;
		m->old_at += (uint64_t)got;
		len -= (uint64_t)got;
	}
	return 0;
}

/* Writes the kept and our pieces of one entry in ascending order. */
static int split_merge_entry(struct split_merge *m, const struct criu_pagemap_entry *e)
{
	const struct mem_split *p = m->p;
	uint64_t at = e->addr, end = e->addr + e->npages * MEM_PAGE;

	while (at < end) {
		const struct mem_range *r;

		if (m->i_kept < p->n_kept && p->kept[m->i_kept].addr == at) {
			r = &p->kept[m->i_kept++];
			criu_pagemap_add(&m->out, (struct criu_pagemap_entry){ at, r->npages, CRIU_PE_PRESENT });
			if (write_all(m->new, m->kept, r->npages * MEM_PAGE))
				return -1;
			m->kept += r->npages * MEM_PAGE;
		} else {
			r = &p->ours[m->i_ours++];
			criu_pagemap_add(&m->out, (struct criu_pagemap_entry){ at, r->npages, CRIU_PE_PARENT });
		}
		at += r->npages * MEM_PAGE;
	}
	return 0;
}

static int split_merge(struct split_merge *m)
{
	const struct criu_pagemap *c = &m->p->criu;

	for (size_t i = 0; i < c->n; i++) {
		const struct criu_pagemap_entry *e = &c->v[i];

		if (e->flags & CRIU_PE_PARENT) {
			if (split_merge_entry(m, e))
				return -1;
			continue;
		}
		criu_pagemap_add(&m->out, *e);
		if (e->flags & CRIU_PE_PRESENT && split_copy_old(m, e->npages * MEM_PAGE))
			return -1;
	}
	return 0;
}

int mem_split_write_kept(const struct mem_split *p, int images_fd, const void *kept, struct err *err)
{
	struct split_merge m = { .p = p, .kept = kept, .out.pages_id = p->criu.pages_id };
	cleanup_close int old = -1, new = -1;
	char pages[32], pagemap[32], fresh[40];
	int rc;

	if (!p->n_kept)
		return 0;
	snprintf(pages, sizeof(pages), "pages-%u.img", p->criu.pages_id);
	snprintf(pagemap, sizeof(pagemap), "pagemap-%d.img", p->inner);
	snprintf(fresh, sizeof(fresh), "%s.new", pages);
	m.old = old = openat(images_fd, pages, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	m.new = new = openat(images_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (old < 0 || new < 0)
		return err_sys(err, errno, "cannot open %s", old < 0 ? pages : fresh);
	if (split_merge(&m) || renameat(images_fd, fresh, images_fd, pages) ||
	    (unlinkat(images_fd, pagemap, 0) && errno != ENOENT)) {
		criu_pagemap_free(&m.out);
		return err_sys(err, errno, "cannot write %s", pages);
	}
	rc = criu_pagemap_store(images_fd, pagemap, &m.out, err);
	criu_pagemap_free(&m.out);
	return rc;
}
