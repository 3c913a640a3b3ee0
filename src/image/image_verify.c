/* Reads chunks back and compares their checksums. */
#include "image/image_internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/util.h"

struct verify {
	struct mem_image *m;
	int *direct; /* of each file: descriptor with O_DIRECT; -1: the file is not verified, or not supported */
	struct mem_team team;
	uint32_t *chunks; /* to verify, ascending */
	size_t n_chunks;
	atomic_size_t next; /* index into chunks */
	bool deep;
};

/* v->chunks[from .. to - 1], which lie one behind the other in a file. */
static int verify_run(struct verify *v, struct mem_chunk_reader *r, size_t from, size_t to, struct err *err)
{
	for (size_t i = from; i < to && mem_team_goes_on(&v->team); i++)
		if (v->deep ? mem_chunk_read(r, v->chunks[i], err) : mem_chunk_read_stored(r, v->chunks[i], err))
			return -1;
	return 0;
}

static int verify_batch(struct verify *v, struct mem_chunk_reader *r, size_t from, size_t to, struct err *err)
{
	const struct mem_layout *l = &v->m->l;
	uint64_t end;
	size_t n;

	for (; from < to; from += n) {
		const struct mem_chunk *c = &l->chunks[v->chunks[from]];

		n = mem_layout_run(l, &v->chunks[from], to - from, MEM_WINDOW, &end);
		if (!mem_window_load(&r->window, v->direct[c->file], c->file, c->offset, end))
			posix_fadvise(v->m->fds[c->file], (off_t)c->offset, (off_t)(end - c->offset),
				      POSIX_FADV_WILLNEED);
		if (verify_run(v, r, from, from + n, err))
			return -1;
	}
	return 0;
}

static int verify_thread(void *arg, int i, struct err *err)
{
	struct verify *v = arg;
	struct mem_chunk_reader r;
	int rc = 0;
	size_t from;

	(void)i;
	mem_chunk_reader_init(&r, v->m);
	while (rc == 0 && (from = atomic_fetch_add(&v->next, MEM_BATCH_CHUNKS)) < v->n_chunks)
		rc = verify_batch(v, &r, from,
				  from + MEM_BATCH_CHUNKS < v->n_chunks ? from + MEM_BATCH_CHUNKS : v->n_chunks, err);
	mem_chunk_reader_free(&r);
	return rc;
}

static bool verify_wants_file(const struct mem_layout *l, uint32_t file, enum mem_verify what)
{
	return l->files[file].epoch == l->epoch || what != MEM_VERIFY_OWN;
}

int mem_image_verify(struct mem_image *m, enum mem_verify what, int threads, struct err *err)
{
	struct verify v = { .m = m, .deep = what == MEM_VERIFY_DEEP };
	const struct mem_layout *l = &m->l;
	int rc;

	v.chunks = xmalloc((l->n_chunks + 1) * sizeof(*v.chunks));
	v.direct = xmalloc((l->n_files + 1) * sizeof(*v.direct));
	for (uint32_t i = 0; i < l->n_files; i++) {
		v.direct[i] = verify_wants_file(l, i, what) ? mem_image_open_direct(m, i) : -1;
		if (verify_wants_file(l, i, what))
			posix_fadvise(m->fds[i], 0, 0, POSIX_FADV_DONTNEED);
	}
	for (size_t i = 0; i < l->n_chunks; i++)
		if (verify_wants_file(l, l->chunks[i].file, what))
			v.chunks[v.n_chunks++] = (uint32_t)i;
	mem_team_init(&v.team, NULL);
	rc = mem_team_run(&v.team, mem_threads(threads), 0, verify_thread, &v, err);
	for (size_t i = 0; i < l->n_files; i++)
		if (v.direct[i] >= 0)
			close(v.direct[i]);
	free(v.direct);
	free(v.chunks);
	return rc;
}
