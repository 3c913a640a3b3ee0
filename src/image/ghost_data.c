#include "image/ghost_data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "criu/criu_ghost.h"
#include "criu_ghost.pb-c.h"

#define CHUNK_MAX 64u /* bytes of a message that describes a run */
#define ADDR_MAX  (UINT64_C(1) << 62)

struct ghost_output {
	int out;
	uint64_t size; /* of the file */
	struct ghost_run {
		uint64_t addr, end, at;
	} * v; /* data of the file, ascending; at: its offset in criu's image */
	size_t n, room;
};

/* Adds [addr, end), cut off at the end of the file. */
static void ghost_add_run(struct ghost_output *f, uint64_t addr, uint64_t end)
{
	struct ghost_run *last = f->n ? &f->v[f->n - 1] : NULL;

	end = end < f->size ? end : f->size;
	if (addr >= end)
		return;
	if (last && last->end == addr) {
		last->end = end;
		return;
	}
	array_reserve(f->v, f->n, f->room);
	f->v[f->n++] = (struct ghost_run){ addr, end, 0 };
}

/* Writes the message before each run from offset at on, and leaves room for the data. */
static int ghost_write_frame(struct ghost_output *f, uint64_t at)
{
	for (size_t i = 0; i < f->n; i++) {
		CriuGhostChunk c = CRIU_GHOST_CHUNK__INIT;
		uint8_t buf[4 + CHUNK_MAX];
		uint32_t len;

		c.len = f->v[i].end - f->v[i].addr;
		c.off = f->v[i].addr;
		len = (uint32_t)criu_ghost_chunk__pack(&c, buf + 4);
		memcpy(buf, &len, 4);
		if (pwrite_all(f->out, buf, 4 + len, at))
			return -1;
		f->v[i].at = at + 4 + len;
		at = f->v[i].at + c.len;
	}
	return ftruncate(f->out, (off_t)at);
}

static const struct ghost_run *ghost_find_run(const struct ghost_output *f, uint64_t addr)
{
	size_t low = 0, high = f->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (f->v[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < f->n && f->v[low].addr <= addr ? &f->v[low] : NULL;
}

/* The pages lie within one extent. So the bytes of them that are in the file lie within one run. */
static int ghost_write_pages(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	const struct ghost_output *f = arg;
	const struct ghost_run *r = ghost_find_run(f, addr);

	(void)id;
	if (!r)
		return 0;
	len = r->end - addr < len ? (size_t)(r->end - addr) : len;
	return pwrite_all(f->out, buf, len, r->at + (addr - r->addr));
}

static int ghost_write_data(struct ghost_output *f, struct mem_image *m, uint64_t id, const struct mem_read_opts *opts,
			    struct err *err)
{
	const struct mem_range all = { id, 0, ADDR_MAX / MEM_PAGE };
	const struct mem_sink sink = { .write = ghost_write_pages, .arg = f }; /* zeros stay holes */
	struct mem_read_opts o = *opts;

	o.only = &all;
	o.n_only = 1;
	return mem_image_read_pages(m, &sink, &o, NULL, err);
}

int ghost_data_write(struct mem_image *m, uint64_t id, uint32_t number, int images_fd, int out_fd,
		     const struct mem_read_opts *opts, struct err *err)
{
	struct criu_ghost g = { .number = number };
	struct ghost_output f = { .out = -1 };
	char name[CRIU_GHOST_NAME_MAX];
	uint8_t head[CRIU_GHOST_HEAD_MAX];
	size_t len, n;
	const struct mem_extent *e = mem_image_extents(m, id, &n);
	int rc = criu_ghost_read_head(images_fd, &g, head, &len, err);

	if (rc <= 0)
		return rc < 0 ? -1
			      : err_set(err, EBADMSG,
					"image ghost-file-%x.img holds data that the memory image holds too", number);
	f.size = g.size;
	for (size_t i = 0; i < n; i++)
		if (e[i].chunk != MEM_ZERO)
			ghost_add_run(&f, e[i].addr, e[i].addr + (uint64_t)e[i].npages * MEM_PAGE);
	f.out = openat(out_fd, criu_ghost_name(number, name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (f.out < 0 || pwrite_all(f.out, head, len, 0) || ghost_write_frame(&f, len))
		rc = err_sys(err, errno, "cannot write image %s", name);
	else
		rc = ghost_write_data(&f, m, id, opts, err);
	if (f.out >= 0)
		close(f.out);
	free(f.v);
	return rc;
}
