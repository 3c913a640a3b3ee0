#include "image/image.h"
#include "image/image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

char *mem_file_name(const struct mem_file *f, char buf[MEM_NAME_MAX])
{
	snprintf(buf, MEM_NAME_MAX, "chunks-%06u-%u", f->epoch, f->index);
	return buf;
}

bool mem_is_chunk_file(const char *name)
{
	unsigned epoch, index;
	struct mem_file f = { 0 };
	char again[MEM_NAME_MAX];

	if (sscanf(name, "chunks-%10u-%10u", &epoch, &index) != 2)
		return false;
	f.epoch = epoch;
	f.index = index;
	return strcmp(mem_file_name(&f, again), name) == 0;
}

static int image_open_chunk_file(const struct mem_image *m, size_t i, struct err *err)
{
	const struct mem_file *f = &m->l.files[i];
	char name[MEM_NAME_MAX];
	struct stat st;

	m->fds[i] = openat(m->dirfd, mem_file_name(f, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (m->fds[i] < 0 || fstat(m->fds[i], &st) < 0)
		return err_sys(err, errno, "cannot read memory/%s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EBADMSG, "memory/%s is not a regular file", name);
	if ((uint64_t)st.st_size != f->size)
		return err_set(err, EBADMSG, "memory/%s is damaged: it has %llu bytes instead of %llu", name,
			       (unsigned long long)st.st_size, (unsigned long long)f->size);
	return 0;
}

int mem_image_open_direct(const struct mem_image *m, uint32_t file)
{
	char name[MEM_NAME_MAX];

	return openat(m->dirfd, mem_file_name(&m->l.files[file], name),
		      O_RDONLY | O_DIRECT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static int image_load(struct mem_image *m, struct err *err)
{
	cleanup_free uint8_t *buf = NULL;
	size_t len;

	if (m->dirfd < 0)
		return err_sys(err, errno, "cannot open the directory of the memory image");
	if (mem_read_file(m->dirfd, MEM_IMAGE_FILE, &buf, &len, err) < 0 || mem_layout_parse(buf, len, &m->l, err) < 0)
		return -1;
	mem_image_sum(buf, len, m->sum);
	m->fds = xmalloc((m->l.n_files + 1) * sizeof(*m->fds));
	for (size_t i = 0; i < m->l.n_files; i++)
		m->fds[i] = -1;
	for (size_t i = 0; i < m->l.n_files; i++)
		if (image_open_chunk_file(m, i, err) < 0)
			return -1;
	return 0;
}

struct mem_image *mem_image_open(int dirfd, struct err *err)
{
	struct mem_image *m = xcalloc(1, sizeof(*m));

	m->dirfd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (image_load(m, err) == 0)
		return m;
	mem_image_close(m);
	return NULL;
}

void mem_image_close(struct mem_image *m)
{
	if (!m)
		return;
	for (size_t i = 0; m->fds && i < m->l.n_files; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	free(m->fds);
	free(m->hashes);
	free(m->page_base);
	mem_layout_free(&m->l);
	if (m->dirfd >= 0)
		close(m->dirfd);
	free(m);
}

int mem_image_load_hashes(struct mem_image *m, struct err *err)
{
	cleanup_free uint8_t *buf = NULL;
	size_t len;

	if (m->hashes)
		return 0;
	if (mem_read_file(m->dirfd, MEM_HASH_FILE, &buf, &len, err) < 0)
		return -1;
	if (!m->page_base)
		m->page_base = mem_layout_page_bases(&m->l);
	return mem_hashes_parse(buf, len, m->page_base[m->l.n_extents], m->sum, &m->hashes, err);
}

/* ---- what is in it ----------------------------------------------------- */

uint32_t mem_image_epoch(const struct mem_image *m)
{
	return m->l.epoch;
}

const struct mem_file *mem_image_files(const struct mem_image *m, size_t *n)
{
	*n = m->l.n_files;
	return m->l.files;
}

const struct mem_chunk *mem_image_chunks(const struct mem_image *m, size_t *n)
{
	*n = m->l.n_chunks;
	return m->l.chunks;
}

const struct mem_space *mem_image_spaces(const struct mem_image *m, size_t *n)
{
	*n = m->l.n_spaces;
	return m->l.spaces;
}

const struct mem_extent *mem_image_extents(const struct mem_image *m, uint64_t id, size_t *n)
{
	const struct mem_space *s = mem_layout_space(&m->l, id);

	*n = s ? s->count : 0;
	return s ? &m->l.extents[s->first] : NULL;
}

/* The number of pages of the extent to which no extent before referred. seen: per chunk, a bit for each page. */
static unsigned image_count_new_pages(const struct mem_extent *e, uint64_t *seen)
{
	const uint64_t bits = (e->npages == MEM_CHUNK_PAGES ? ~UINT64_C(0) : (UINT64_C(1) << e->npages) - 1) << e->first;
	const unsigned n = (unsigned)__builtin_popcountll(bits & ~seen[e->chunk]);

	seen[e->chunk] |= bits;
	return n;
}

void mem_image_totals(const struct mem_image *m, struct mem_totals *t)
{
	const struct mem_layout *l = &m->l;
	cleanup_free uint64_t *seen = xcalloc(l->n_chunks + 1, sizeof(*seen));

	_Static_assert(MEM_CHUNK_PAGES == 64, "seen has a bit for each page");
	memset(t, 0, sizeof(*t));
	for (size_t i = 0; i < l->n_extents; i++) {
		const struct mem_extent *e = &l->extents[i];
		uint64_t bytes = (uint64_t)(e->chunk == MEM_ZERO ? e->npages : image_count_new_pages(e, seen)) * MEM_PAGE;

		t->pages += bytes;
		if (e->chunk == MEM_ZERO)
			t->zero += bytes;
		else if (l->files[l->chunks[e->chunk].file].epoch != l->epoch)
			t->older_pages += bytes;
	}
	for (size_t i = 0; i < l->n_files; i++) {
		bool own = l->files[i].epoch == l->epoch;

		*(own ? &t->own : &t->older) += l->files[i].size;
		t->older_files += !own;
	}
	for (size_t i = 0; i < l->n_chunks; i++)
		if (l->files[l->chunks[i].file].epoch != l->epoch)
			t->older_used += l->chunks[i].stored;
}
