#include "image/writer.h"
#include "image/writer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define PROBE_FROM  (UINT64_C(256) << 20) /* bytes to read: below, a probe would cost more than it saves */
#define THREAD_FROM (UINT64_C(1) << 20)   /* bytes to read per thread */

void mem_write_opts_init(struct mem_write_opts *o)
{
	memset(o, 0, sizeof(*o));
	o->level = MEM_LEVEL_LZ4;
	o->direct = MEM_DIRECT_PROBE;
	o->compact = 25;
	o->older_files = 256;
}

/* Another file of the same epoch is there when a pre-dump made one: numbers go on behind it. */
static uint32_t first_index(const struct writer *w)
{
	const struct mem_image *m = w->o->previous;
	uint32_t next = 0;

	for (size_t i = 0; m && i < m->l.n_files; i++)
		if (m->l.files[i].epoch == w->epoch && m->l.files[i].index >= next)
			next = m->l.files[i].index + 1;
	return next;
}

static uint64_t bytes_to_read(const struct writer *w)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->pieces.n; i++)
		bytes += w->pieces.v[i].npages * MEM_PAGE;
	return bytes;
}

static bool choose_direct(const struct writer *w)
{
	if (w->o->direct != MEM_DIRECT_PROBE)
		return w->o->direct == MEM_DIRECT_ALWAYS;
	return bytes_to_read(w) >= PROBE_FROM && mem_probe_direct(w->dirfd);
}

/* Small increments shall not leave a crowd of small files. */
static int choose_threads(const struct writer *w)
{
	uint64_t most = 1 + bytes_to_read(w) / THREAD_FROM;
	int n = mem_threads(w->o->threads);

	return (uint64_t)n < most ? n : (int)most;
}

static int make_drains(struct writer *w, struct err *err)
{
	bool direct = choose_direct(w);

	w->threads = choose_threads(w);
	w->first_index = first_index(w);
	w->drains = xcalloc((size_t)w->threads, sizeof(*w->drains));
	for (int i = 0; i < w->threads; i++) {
		struct drain *d = &w->drains[i];
		const struct mem_file name = { .epoch = w->epoch, .index = w->first_index + (uint32_t)i };

		chunk_file_init(&d->file, &name, direct);
		d->codec = mem_codec_new(w->o->level, MEM_CHUNK);
		if (w->o->previous)
			mem_chunk_reader_init(&d->old, w->o->previous);
		d->pages = aligned_alloc(MEM_PAGE, MEM_CHUNK);
		if (!d->pages)
			return err_sys(err, ENOMEM, "cannot save memory");
	}
	return 0;
}

static void free_drains(struct writer *w)
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

static void count_drafts(const struct drafts *d, struct mem_write_stats *s)
{
	for (size_t i = 0; i < d->n; i++) {
		uint64_t bytes = (uint64_t)d->v[i].npages * MEM_PAGE;

		s->pages += bytes;
		s->zero += d->v[i].kind == DRAFT_ZERO ? bytes : 0;
		s->reused += d->v[i].kind == DRAFT_OLD ? bytes : 0;
	}
}

static void sum_up(struct writer *w, struct mem_write_stats *s)
{
	count_drafts(&w->planned, s);
	for (int i = 0; i < w->threads; i++) {
		const struct mem_write_stats *p = &w->drains[i].stats;

		count_drafts(&w->drains[i].drafts, s);
		s->scanned += p->scanned;
		s->rewritten += p->rewritten;
		s->unreadable += p->unreadable;
		s->raw += p->raw;
		s->stored += p->stored;
		for (int t = 0; t < MEM_TRANSFORMS; t++)
			for (int m = 0; m < MEM_METHODS; m++)
				s->chunks[t][m] += p->chunks[t][m];
		s->sync_us = p->sync_us > s->sync_us ? p->sync_us : s->sync_us;
	}
	s->same = w->o->same ? w->o->same->pages * MEM_PAGE : 0;
	s->threads = (unsigned)w->threads;
	s->linked_files = w->linked;
	s->cpu_us = atomic_load(&w->team.cpu_us);
}

static int write_all_parts(struct writer *w, const struct mem_range *work, size_t n, struct mem_write_stats *s,
			   struct err *err)
{
	if (writer_plan(w, work, n, err) < 0 || make_drains(w, err) < 0)
		return -1;
	if (writer_drain(w, err) < 0 || writer_settle(w, err) < 0 || writer_drain(w, err) < 0)
		return -1;
	for (int i = 0; i < w->threads; i++)
		s->direct |= w->drains[i].file.fd >= 0 && w->drains[i].file.direct;
	if (writer_finish_files(w, err) < 0 || writer_merge(w, err) < 0)
		return -1;
	/* EINVAL: a file system that has no fsync for directories. */
	if (fsync(w->dirfd) < 0 && errno != EINVAL)
		return err_sys(err, errno, "cannot write the directory of the memory image to the disk");
	sum_up(w, s);
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
	rc = write_all_parts(&w, work, n_work, &s, err);
	s.wall_us = (uint64_t)(now_us() - start);
	if (stats)
		*stats = s;
	free_drains(&w);
	free(w.work);
	free(w.ids);
	free(w.pieces.v);
	free(w.planned.v);
	free(w.keep);
	return rc;
}
