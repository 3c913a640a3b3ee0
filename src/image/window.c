#include "image/image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define ROOM (MEM_WINDOW + 2 * MEM_DIRECT_ALIGN)

bool mem_window_load(struct mem_window *w, int fd, uint32_t file, uint64_t from, uint64_t to)
{
	const uint64_t start = from / MEM_DIRECT_ALIGN * MEM_DIRECT_ALIGN,
		       end = (to + MEM_DIRECT_ALIGN - 1) / MEM_DIRECT_ALIGN * MEM_DIRECT_ALIGN;

	w->len = 0;
	if (fd < 0 || end - start > ROOM || (!w->buf && !(w->buf = aligned_alloc(MEM_DIRECT_ALIGN, ROOM))))
		return false;
	while (start + w->len < to) {
		ssize_t n = pread(fd, w->buf + w->len, end - start - w->len, (off_t)(start + w->len));

		if (n < 0 && errno == EINTR)
			continue;
		/* At the end of the file the length need not be aligned; elsewhere an unaligned short read is an error.
		 */
		if (n <= 0 || (n % MEM_DIRECT_ALIGN && start + w->len + (uint64_t)n < to)) {
			w->len = 0;
			return false;
		}
		w->len += (uint64_t)n;
	}
	w->file = file;
	w->from = start;
	return true;
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
