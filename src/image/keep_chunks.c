/* The keep_chunks stage: decides which chunk files of the previous image stay in use. */
#include "image/writer_internal.h"

#include <string.h>
#include <unistd.h>

#include "base/util.h"

static void keep_count_used(const struct drafts *d, uint32_t *used)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->v[i].kind == DRAFT_OLD)
			used[d->v[i].chunk] += d->v[i].npages;
}

struct file_use {
	size_t file;
	uint64_t bytes;
};

static int keep_by_use(const void *a, const void *b)
{
	const struct file_use *x = a, *y = b;

	return x->bytes != y->bytes ? (x->bytes > y->bytes ? -1 : 1) : 0;
}

/* The number of bytes of each file to which drafts refer, the largest first. To be freed. */
static struct file_use *keep_files_by_use(const struct writer *w)
{
	const struct mem_layout *l = &w->o->previous->l;
	cleanup_free uint32_t *used = xcalloc(l->n_chunks + 1, sizeof(*used));
	struct file_use *file_use = xcalloc(l->n_files + 1, sizeof(*file_use));

	keep_count_used(&w->planned, used);
	for (int i = 0; i < w->threads; i++)
		keep_count_used(&w->drains[i].drafts, used);
	for (size_t i = 0; i < l->n_files; i++)
		file_use[i].file = i;
	for (size_t i = 0; i < l->n_chunks; i++) {
		const struct mem_chunk *c = &l->chunks[i];
		struct file_use *u = &file_use[c->file];

		/* Several extents may refer to the same page, so used may be more than npages. */
		u->bytes += (uint64_t)c->stored * (used[i] < c->npages ? used[i] : c->npages) / c->npages;
		if (used[i] > 0 && u->bytes == 0)
			u->bytes = 1;
	}
	qsort(file_use, l->n_files, sizeof(*file_use), keep_by_use);
	return file_use;
}

/* False also if the link cannot be made (another file system, too many links): then the pages are stored again. */
static bool keep_link_file(const struct writer *w, size_t i, uint64_t used)
{
	const struct mem_image *m = w->o->previous;
	const struct mem_file *f = &m->l.files[i];
	char name[MEM_NAME_MAX];

	if (used == 0 || (__uint128_t)used * 100 < (__uint128_t)f->size * w->o->compact)
		return false;
	mem_file_name(f, name);
	return linkat(m->dirfd, name, w->dirfd, name, 0) == 0;
}

/* Turns drafts that refer to files which are not kept into pieces. */
static void keep_rewrite_rest(struct writer *w, struct drafts *d)
{
	const struct mem_layout *l = &w->o->previous->l;
	size_t kept = 0;

	for (size_t i = 0; i < d->n; i++) {
		const struct draft *one = &d->v[i];
		const struct piece p = { .addr = one->addr,
					 .npages = one->npages,
					 .space = one->space,
					 .chunk = one->chunk,
					 .first = one->first };

		if (one->kind == DRAFT_OLD && !w->keep[l->chunks[one->chunk].file])
			pieces_add(&w->pieces, &p);
		else
			d->v[kept++] = *one;
	}
	d->n = kept;
}

/* In this order each chunk is decoded once, or once per thread. */
static int keep_by_chunk(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->chunk != y->chunk)
		return x->chunk < y->chunk ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

void writer_keep_chunks(struct writer *w)
{
	cleanup_free struct file_use *file_use = NULL;
	size_t n;

	w->pieces.n = 0;
	if (!w->o->previous)
		return;
	n = w->o->previous->l.n_files;
	file_use = keep_files_by_use(w);
	w->keep = xcalloc(n + 1, sizeof(*w->keep));
	for (size_t i = 0; i < n && w->linked < w->o->older_files; i++)
		if (keep_link_file(w, file_use[i].file, file_use[i].bytes)) {
			w->keep[file_use[i].file] = true;
			w->linked++;
		}
	keep_rewrite_rest(w, &w->planned);
	for (int i = 0; i < w->threads; i++)
		keep_rewrite_rest(w, &w->drains[i].drafts);
	if (w->pieces.n > 0)
		qsort(w->pieces.v, w->pieces.n, sizeof(*w->pieces.v), keep_by_chunk);
}
