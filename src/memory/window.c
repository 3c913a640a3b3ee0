#include "memory/window.h"
#include "memory/memory_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/util.h"

#define ALIGN 4096u   /* what O_DIRECT asks of offsets, lengths and addresses; some devices ask for less */

void mem_uncached_open(struct mem_uncached *d, const struct mem_image *m)
{
	char name[MEM_NAME_MAX];

	d->n = m->l.n_files;
	d->fds = xmalloc((d->n + 1) * sizeof(*d->fds));
	for (size_t i = 0; i < d->n; i++)
		d->fds[i] = openat(m->dirfd, mem_file_name(&m->l.files[i], name), O_RDONLY | O_DIRECT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

void mem_uncached_close(struct mem_uncached *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->fds[i] >= 0)
			close(d->fds[i]);
	free(d->fds);
	*d = (struct mem_uncached){ 0 };
}

void mem_window_load(struct mem_window *w, const struct mem_uncached *d, uint32_t file, uint64_t from, uint64_t to)
{
	const uint64_t start = from / ALIGN * ALIGN, end = (to + ALIGN - 1) / ALIGN * ALIGN;

	w->len = 0;
	if (d->fds[file] < 0 || end - start > MEM_WINDOW + 2 * ALIGN)
		return;
	if (!w->buf && !(w->buf = aligned_alloc(ALIGN, MEM_WINDOW + 2 * ALIGN)))
		return;
	while (start + w->len < to) {
		ssize_t n = pread(d->fds[file], w->buf + w->len, end - start - w->len, (off_t)(start + w->len));

		if (n < 0 && errno == EINTR)
			continue;
		/* The file's end is no multiple of anything; elsewhere a part would have to be. */
		if (n <= 0 || (n % ALIGN && start + w->len + (uint64_t)n < to)) {
			w->len = 0;
			return;
		}
		w->len += (uint64_t)n;
	}
	w->file = file;
	w->from = start;
}

const uint8_t *mem_window_get(const struct mem_window *w, uint32_t file, uint64_t from, size_t len)
{
	if (!w->len || w->file != file || from < w->from || from + len > w->from + w->len)
		return NULL;
	return w->buf + (from - w->from);
}

void mem_window_free(struct mem_window *w)
{
	free(w->buf);
	*w = (struct mem_window){ 0 };
}
