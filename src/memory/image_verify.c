/* Reads chunks back and compares their checksums. */
#include "memory/memory_internal.h"

#include <fcntl.h>

#include "common/util.h"

#define TURN 16u   /* chunks that a thread takes at a time: a window at most */

struct verify {
	struct mem_image *m;
	struct mem_uncached direct;
	struct mem_team team;
	uint32_t *chunks;         /* that are looked at, ascending */
	size_t  n_chunks;
	atomic_size_t next;       /* index into chunks */
	bool    deep;
};

/* Chunks that lie one behind the other. */
static int verify_run(struct verify *v, struct mem_chunk_reader *r, size_t from, size_t to, struct err *err)
{
	for (size_t i = from; i < to && mem_team_goes_on(&v->team); i++)
		if (v->deep ? mem_chunk_read(r, v->chunks[i], err) : mem_chunk_read_stored(r, v->chunks[i], err))
			return -1;
	return 0;
}

static int verify_turn(struct verify *v, struct mem_chunk_reader *r, size_t from, size_t to, struct err *err)
{
	const struct mem_layout *l = &v->m->l;
	uint64_t end;
	size_t n;

	for (; from < to; from += n) {
		const struct mem_chunk *c = &l->chunks[v->chunks[from]];

		n = mem_layout_run(l, &v->chunks[from], to - from, MEM_WINDOW, &end);
		mem_window_load(&r->window, &v->direct, c->file, c->offset, end);
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
	while (rc == 0 && (from = atomic_fetch_add(&v->next, TURN)) < v->n_chunks)
		rc = verify_turn(v, &r, from, from + TURN < v->n_chunks ? from + TURN : v->n_chunks, err);
	mem_chunk_reader_free(&r);
	return rc;
}

int mem_image_verify(struct mem_image *m, enum mem_verify what, int threads, struct err *err)
{
	struct verify v = { .m = m, .deep = what == MEM_VERIFY_DEEP };
	const struct mem_layout *l = &m->l;
	int rc;

	v.chunks = xmalloc((l->n_chunks + 1) * sizeof(*v.chunks));
	for (size_t i = 0; i < l->n_files; i++)
		if (l->files[i].epoch == l->epoch || what != MEM_VERIFY_OWN)
			posix_fadvise(m->fds[i], 0, 0, POSIX_FADV_DONTNEED);
	for (size_t i = 0; i < l->n_chunks; i++)
		if (l->files[l->chunks[i].file].epoch == l->epoch || what != MEM_VERIFY_OWN)
			v.chunks[v.n_chunks++] = (uint32_t)i;
	mem_uncached_open(&v.direct, m);
	mem_team_init(&v.team, NULL);
	rc = mem_team_run(&v.team, mem_threads(threads), 0, verify_thread, &v, err);
	mem_uncached_close(&v.direct);
	free(v.chunks);
	return rc;
}
