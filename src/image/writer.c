#include "image/writer.h"
#include "image/writer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define PROBE_FROM  (UINT64_C(256) << 20) /* bytes to read: with less, a probe costs more than it saves */
#define THREAD_FROM (UINT64_C(1) << 20)   /* bytes to read per thread */

void mem_write_opts_init(struct mem_write_opts *o)
{
	memset(o, 0, sizeof(*o));
	o->level = MEM_LEVEL_AUTO;
	o->direct_io = MEM_DIRECT_IO_PROBE;
	o->compact = 25;
	o->older_files = 256;
}

/* A pre-dump of the same epoch has made chunk files already: the numbers continue behind theirs. */
static uint32_t writer_first_index(const struct writer *w)
{
	const struct mem_image *m = w->o->previous;
	uint32_t next = 0;

	for (size_t i = 0; m && i < m->l.n_files; i++)
		if (m->l.files[i].epoch == w->epoch && m->l.files[i].index >= next)
			next = m->l.files[i].index + 1;
	return next;
}

static uint64_t writer_bytes_to_read(const struct writer *w)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->pieces.n; i++)
		bytes += w->pieces.v[i].npages * MEM_PAGE;
	return bytes;
}

static bool writer_choose_direct(const struct writer *w)
{
	if (w->o->direct_io != MEM_DIRECT_IO_PROBE)
		return w->o->direct_io == MEM_DIRECT_IO_ALWAYS;
	return writer_bytes_to_read(w) >= PROBE_FROM && mem_probe_direct_io(w->dirfd);
}

/* Fewer threads for a small increment, because each makes a file. */
static int writer_choose_threads(const struct writer *w)
{
	uint64_t most = 1 + writer_bytes_to_read(w) / THREAD_FROM;
	int n = mem_threads(w->o->threads);

	return (uint64_t)n < most ? n : (int)most;
}

static int writer_make_drains(struct writer *w, struct err *err)
{
	bool direct = writer_choose_direct(w);

	w->threads = writer_choose_threads(w);
	w->paced = w->o->level == MEM_LEVEL_AUTO && writer_bytes_to_read(w) >= PACE_FROM;
	pace_init(&w->pace, (unsigned)w->threads);
	w->first_index = writer_first_index(w);
	w->drains = xcalloc((size_t)w->threads, sizeof(*w->drains));
	for (int i = 0; i < w->threads; i++) {
		struct drain *d = &w->drains[i];
		const struct mem_file name = { .epoch = w->epoch, .index = w->first_index + (uint32_t)i };

		chunk_file_init(&d->file, &name, direct);
		d->codec = mem_codec_new(w->o->level == MEM_LEVEL_AUTO ? MEM_LEVEL_LZ4 : w->o->level, MEM_CHUNK);
		if (w->o->previous)
			mem_chunk_reader_init(&d->old, w->o->previous);
		d->pages = aligned_alloc(MEM_PAGE, MEM_CHUNK);
		if (!d->pages)
			return err_sys(err, ENOMEM, "cannot save memory");
	}
	return 0;
}

static void writer_free_drains(struct writer *w)
{
	for (int i = 0; w->drains && i < w->threads; i++) {
		struct drain *d = &w->drains[i];

		chunk_file_free(&d->file);
		mem_codec_free(d->codec);
		mem_chunk_reader_free(&d->old);
		free(d->pages);
		free(d->chunks);
		free(d->drafts.v);
		free(d->hashes);
	}
	free(w->drains);
}

static void writer_count_drafts(const struct drafts *d, struct mem_write_stats *s)
{
	for (size_t i = 0; i < d->n; i++) {
		uint64_t bytes = (uint64_t)d->v[i].npages * MEM_PAGE;

		s->pages += bytes;
		s->zero += d->v[i].kind == DRAFT_ZERO ? bytes : 0;
		s->reused += d->v[i].kind == DRAFT_OLD ? bytes : 0;
	}
}

static void writer_sum_up(struct writer *w, struct mem_write_stats *s)
{
	writer_count_drafts(&w->planned, s);
	for (int i = 0; i < w->threads; i++) {
		const struct mem_write_stats *p = &w->drains[i].stats;

		writer_count_drafts(&w->drains[i].drafts, s);
		s->scanned += p->scanned;
		s->rewritten += p->rewritten;
		s->unreadable += p->unreadable;
		s->raw += p->raw;
		s->stored += p->stored;
		for (int t = 0; t < MEM_TRANSFORMS; t++)
			for (int m = 0; m < MEM_COMPRESSIONS; m++)
				s->chunks[t][m] += p->chunks[t][m];
		s->sync_us = p->sync_us > s->sync_us ? p->sync_us : s->sync_us;
	}
	s->fork_shared = w->o->fork_shared ? w->o->fork_shared->pages * MEM_PAGE : 0;
	s->threads = (unsigned)w->threads;
	s->linked_files = w->linked;
	s->cpu_us = atomic_load(&w->team.cpu_us);
}

static int writer_run(struct writer *w, const struct mem_range *work, size_t n, struct mem_write_stats *s, struct err *err)
{
	if (writer_plan(w, work, n, err) < 0 || writer_make_drains(w, err) < 0)
		return -1;
	if (writer_drain(w, err) < 0)
		return -1;
	writer_keep_chunks(w);
	if (writer_drain(w, err) < 0)
		return -1;
	for (int i = 0; i < w->threads; i++)
		s->direct_io |= w->drains[i].file.fd >= 0 && w->drains[i].file.direct;
	if (writer_finish_files(w, err) < 0 || writer_finish_image(w, err) < 0)
		return -1;
	/* EINVAL: the file system does not support fsync for directories. */
	if (fsync(w->dirfd) < 0 && errno != EINVAL)
		return err_sys(err, errno, "cannot write the directory of the memory image to the disk");
	writer_sum_up(w, s);
	return 0;
}

int mem_image_write(int dirfd, uint32_t epoch, const struct mem_source *source, const struct mem_range *work,
		    size_t n_work, const struct mem_write_opts *opts, struct mem_write_stats *stats, struct err *err)
{
	struct writer w = { .dirfd = dirfd, .epoch = epoch, .source = source, .o = opts };
	struct mem_write_stats s = { 0 };
	int64_t start = now_us();
	int rc;

	if (opts->previous && opts->previous->l.epoch > epoch)
		return err_set(err, EINVAL, "epoch %u cannot continue epoch %u", epoch, opts->previous->l.epoch);
	w.compare = opts->compare && opts->previous && opts->previous->hashes;
	pthread_mutex_init(&w.lock, NULL);
	mem_team_init(&w.team, opts->cancel);
	rc = writer_run(&w, work, n_work, &s, err);
	s.wall_us = (uint64_t)(now_us() - start);
	if (stats)
		*stats = s;
	writer_free_drains(&w);
	free(w.work);
	free(w.ids);
	free(w.pieces.v);
	free(w.planned.v);
	free(w.keep);
	return rc;
}
