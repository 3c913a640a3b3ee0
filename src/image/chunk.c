#include "image/image_internal.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"
#include "base/xxh3.h"

void mem_chunk_reader_init(struct mem_chunk_reader *r, struct mem_image *m)
{
	memset(r, 0, sizeof(*r));
	r->m = m;
	r->codec = mem_codec_new(MEM_LEVEL_RAW, MEM_CHUNK);
	r->room = xmalloc(MEM_CHUNK);
	r->raw = xmalloc(MEM_CHUNK);
	r->held = MEM_ZERO;
}

void mem_chunk_reader_free(struct mem_chunk_reader *r)
{
	mem_codec_free(r->codec);
	mem_window_free(&r->window);
	free(r->room);
	free(r->raw);
}

static int chunk_error(const struct mem_chunk_reader *r, const struct mem_chunk *c, int num, const char *why,
		       struct err *err)
{
	char name[MEM_NAME_MAX];

	return err_set(err, num, "memory/%s %s at byte %llu: %s", mem_file_name(&r->m->l.files[c->file], name),
		       num == EBADMSG ? "is damaged" : "cannot be read", (unsigned long long)c->offset, why);
}

int mem_chunk_read_stored(struct mem_chunk_reader *r, uint32_t chunk, struct err *err)
{
	const struct mem_chunk *c = &r->m->l.chunks[chunk];
	uint64_t sum[2];

	r->held = MEM_ZERO;
	r->stored = mem_window_get(&r->window, c->file, c->offset, c->stored);
	if (!r->stored && pread_all(r->m->fds[c->file], r->room, c->stored, c->offset) < 0)
		return chunk_error(r, c, errno == ENODATA ? EBADMSG : errno,
				   errno == ENODATA ? "the file ends there" : strerror(errno), err);
	if (!r->stored)
		r->stored = r->room;
	r->bytes_read += c->stored;
	mem_sum128(r->stored, c->stored, sum);
	if (sum[0] != c->sum[0] || sum[1] != c->sum[1])
		return chunk_error(r, c, EBADMSG, "the checksum differs", err);
	return 0;
}

int mem_chunk_read(struct mem_chunk_reader *r, uint32_t chunk, struct err *err)
{
	const struct mem_chunk *c = &r->m->l.chunks[chunk];
	size_t len = (size_t)c->npages * MEM_PAGE;

	if (r->held == chunk)
		return 0;
	if (mem_chunk_read_stored(r, chunk, err) < 0)
		return -1;
	r->pages = r->stored;
	if (c->format.compression != MEM_RAW) {
		struct err why;

		if (mem_decode(r->codec, c->format, r->stored, c->stored, r->raw, len, &why) < 0)
			return chunk_error(r, c, EBADMSG, why.text, err);
		if (XXH3_64bits(r->raw, len) != c->raw_sum)
			return chunk_error(r, c, EBADMSG, "the checksum of its decoded pages differs", err);
		r->pages = r->raw;
	}
	r->held = chunk;
	return 0;
}
