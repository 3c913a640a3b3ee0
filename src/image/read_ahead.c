/* Reads chunks into the page cache before they are needed. */
#include "image/image_internal.h"

#include <fcntl.h>

#include "base/io.h"
#include "base/util.h"

#define STEP (4u << 20) /* bytes per request */

struct step {
	int fd;
	uint64_t end;
};

/* Waits until the last byte of a step is in the page cache. */
static void read_ahead_wait(const struct step *s)
{
	uint8_t byte;

	if (s->end)
		pread_all(s->fd, &byte, 1, s->end - 1);
}

/* Two steps are in flight at a time. This keeps the disk busy, and reads of others wait for milliseconds only. If all
 * were requested at once, these would wait for the end: a file of a few bytes that the restore needs took as long as
 * the whole image. */
void mem_image_read_ahead(const struct mem_image *m, uint64_t max)
{
	const struct mem_layout *l = &m->l;
	cleanup_free uint32_t *chunks = xmalloc((l->n_chunks + 1) * sizeof(*chunks));
	struct step before = { 0 }, s;

	for (size_t i = 0; i < l->n_chunks; i++)
		chunks[i] = (uint32_t)i;
	for (size_t i = 0, n; i < l->n_chunks; i += n) {
		const struct mem_chunk *c = &l->chunks[i];

		n = mem_layout_run(l, &chunks[i], l->n_chunks - i, STEP, &s.end);
		s.fd = m->fds[c->file];
		if (s.end - c->offset > max)
			return;
		max -= s.end - c->offset;
		posix_fadvise(s.fd, (off_t)c->offset, (off_t)(s.end - c->offset), POSIX_FADV_WILLNEED);
		read_ahead_wait(&before);
		before = s;
	}
	read_ahead_wait(&before);
}
