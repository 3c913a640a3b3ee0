#include "capture/track.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/clock.h"
#include "base/util.h"
#include "trace/arch.h"
#include "trace/helper_task.h"
#include "capture/pagemap.h"
#include "trace/stop_threads.h"
#include "trace/tracer.h"
#include "capture/uffd.h"
#include "base/vmas.h"

/* Microseconds within which a process must stop. */
#define STOP_MAX_US  500000
/* Bytes to unprotect at a time, during which the process cannot change its mappings, and the pause in microseconds
 * after each step. */
#define RELEASE_STEP (4u << 20)
#define RELEASE_US   300
/* Soft-dirty bits are read for every mapped page, used or not. If so many bytes are mapped per used byte, this takes
 * too long. */
#define SPARSE       8

struct tracked {
	pid_t host;
	uint64_t id;
	int pidfd;
	int uffd;     /* MEM_TRACK_PROTECT */
	int mem;      /* /proc/PID/mem as of the last scan: it never becomes the memory of another process */
	bool scanned; /* at least once */
};

struct mem_track {
	enum mem_tracking how;
	struct tracked *v;
	size_t n, room;
};

const char *mem_tracking_name(enum mem_tracking t)
{
	static const char *const names[] = {
		[MEM_TRACK_NONE] = "none", [MEM_TRACK_PROTECT] = "wp-async", [MEM_TRACK_SOFT_DIRTY] = "soft-dirty"
	};

	return names[t];
}

enum mem_tracking mem_tracking_probe(void)
{
	if (arch_can_inject() && mem_pagemap_can_protect())
		return MEM_TRACK_PROTECT;
	return mem_pagemap_has_soft_dirty() ? MEM_TRACK_SOFT_DIRTY : MEM_TRACK_NONE;
}

/* ---- one process --------------------------------------------------------------- */

static bool track_alive(const struct tracked *p)
{
	struct pollfd f = { p->pidfd, POLLIN, 0 };

	return poll(&f, 1, 0) == 0;
}

static void track_close(struct tracked *p)
{
	if (p->uffd >= 0)
		close(p->uffd);
	if (p->mem >= 0)
		close(p->mem);
	close(p->pidfd);
}

/* The mappings of a process. -1 also if it cannot be tracked because of io_setup(): the kernel writes the results of
 * asynchronous reads at any time, and a scan does not wait for them. */
static int track_read_vmas(const struct tracked *p, struct vmas *m, struct err *err)
{
	if (vmas_read(p->host, m, err))
		return -1;
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].aio) {
			vmas_free(m);
			return err_set(err, ENOTSUP, "it uses asynchronous I/O (io_setup)");
		}
	return 0;
}

static int track_collect(const struct tracked *p, const struct vmas *m, enum mem_pages what, struct mem_ranges *out,
			 struct err *err)
{
	cleanup_close int pagemap = open_proc(p->host, "pagemap", O_RDONLY);

	if (pagemap < 0)
		return err_sys(err, errno, "cannot open its pagemap");
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].plain && mem_pagemap_collect(pagemap, what, p->id, m->v[i].start, m->v[i].end, out))
			return err_sys(err, errno, "cannot read its pagemap");
	return 0;
}

/* ---- protection ------------------------------------------------------------------ */

/* Calls userfaultfd() in the helper task, which shares the memory of the process, and whose descriptors end with it. */
static int track_make_uffd_in(struct tracked *p, const struct helper_task *m, struct err *err)
{
	const long make[6] = { O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY };
	cleanup_close int pidfd = pidfd_open(m->pid, 0);
	long fd;

	if (helper_task_call(m, m->pid, "userfaultfd", SYS_userfaultfd, make, &fd, NULL, err))
		return -1;
	p->uffd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)fd, 0);
	return p->uffd < 0 ? err_sys(err, errno, "cannot take over its userfaultfd") : 0;
}

static int track_make_uffd(struct tracked *p, struct err *err)
{
	struct stopped_threads stop = { 0 };
	struct helper_task m;
	int rc;

	if (stop_threads_add(&stop, p->host, now_us() + STOP_MAX_US, err))
		return -1;
	if (!stop.n || !stop.tids[0]) {
		stop_threads_end(&stop);
		return err_set(err, ESRCH, "it has ended");
	}
	rc = helper_task_make(&m, TRACER_SELF, stop.tids[0], p->host, err) || track_make_uffd_in(p, &m, err) ? -1 : 0;
	if (helper_task_end(&m, rc ? NULL : err))
		rc = -1;
	stop_threads_end(&stop);
	if (!rc && uffd_begin(p->uffd))
		return err_sys(err, errno, "cannot set up its userfaultfd");
	return rc;
}

/* A page is clean if it was protected all the time since the last scan. So it must be unwritten before new mappings,
 * and mappings that have lost their registration, are registered, and again when all pages are protected. */
static int track_scan_protect(struct tracked *p, const struct vmas *m, struct mem_ranges *clean, struct err *err)
{
	cleanup_close int pagemap = open_proc(p->host, "pagemap", O_RDONLY);
	int rc = 0;

	if (pagemap < 0)
		return err_sys(err, errno, "cannot open its pagemap");
	for (size_t i = 0; i < m->n && !rc; i++) {
		const struct vma *v = &m->v[i];
		struct mem_ranges before = { 0 }, now = { 0 };

		if (!v->plain)
			continue;
		if (p->scanned)
			rc = mem_pagemap_collect(pagemap, MEM_PAGES_UNWRITTEN, p->id, v->start, v->end, &before);
		/* A mapping that has gone or changed meanwhile stays unprotected, so its pages are not clean. */
		if (!rc && uffd_register(p->uffd, v->start, v->end) == 0)
			rc = mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, p->id, v->start, v->end, &now);
		mem_ranges_common(clean, before.v, before.n, now.v, now.n);
		mem_ranges_free(&before);
		mem_ranges_free(&now);
	}
	p->scanned = true;
	return rc ? err_sys(err, errno, "cannot protect its pages") : 0;
}

/* In steps, because the kernel holds the lock of the process's memory map while it walks through the pages of a step.
 * Gaps between the present ranges have no pages and cost nothing. */
static void track_release_mapping(const struct tracked *p, const struct vma *v, const struct mem_ranges *present_here)
{
	uint64_t at = v->start, bytes = 0;

	for (size_t k = 0; k < present_here->n; k++) {
		uint64_t pos = present_here->v[k].addr, left = present_here->v[k].npages * MEM_PAGE;

		for (; left >= RELEASE_STEP - bytes; bytes = 0) {
			pos += RELEASE_STEP - bytes;
			left -= RELEASE_STEP - bytes;
			uffd_unregister(p->uffd, at, pos);
			at = pos;
			usleep(RELEASE_US);
		}
		bytes += left;
	}
	uffd_unregister(p->uffd, at, v->end);
}

static void track_release(const struct tracked *p)
{
	cleanup_close int pagemap = open_proc(p->host, "pagemap", O_RDONLY);
	struct vmas m;

	if (p->uffd < 0 || pagemap < 0 || !track_alive(p) || vmas_read(p->host, &m, NULL))
		return;
	for (size_t i = 0; i < m.n; i++) {
		const struct vma *v = &m.v[i];
		struct mem_ranges present_here = { 0 };

		if (!v->plain)
			continue;
		mem_pagemap_collect(pagemap, MEM_PAGES_PRESENT, p->id, v->start, v->end, &present_here);
		track_release_mapping(p, v, &present_here);
		mem_ranges_free(&present_here);
	}
	vmas_free(&m);
}

/* ---- soft-dirty bits --------------------------------------------------------------- */

/* True if the process has mapped so much more memory than it uses that reading its soft-dirty bits would take longer
 * than a copy. */
static bool track_is_sparse(const struct tracked *p, const struct vmas *m)
{
	uint64_t mapped = 0, used = 0;
	cleanup_free char *text = NULL;
	char path[64];
	unsigned long long pages;

	for (size_t i = 0; i < m->n; i++)
		mapped += m->v[i].plain ? m->v[i].end - m->v[i].start : 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", p->host);
	if (read_file_at(AT_FDCWD, path, 4096, &text) > 0 && sscanf(text, "%*u %llu", &pages) == 1)
		used = pages * MEM_PAGE;
	return mapped > SPARSE * used + (UINT64_C(1) << 30);
}

/* The process must be stopped: a write between reading and clearing the bits would be missed. */
static int track_scan_soft_dirty(struct tracked *p, const struct vmas *m, struct mem_ranges *clean, struct err *err)
{
	cleanup_close int clear = open_proc(p->host, "clear_refs", O_WRONLY);

	if (p->scanned && track_collect(p, m, MEM_PAGES_SOFT_CLEAN, clean, err))
		return -1;
	if (clear < 0 || write(clear, "4", 1) != 1)
		return err_sys(err, errno, "cannot clear its soft-dirty bits");
	p->scanned = true;
	return 0;
}

/* ---- all ------------------------------------------------------------------------------ */

struct mem_track *mem_track_new(enum mem_tracking how)
{
	struct mem_track *t = xcalloc(1, sizeof(*t));

	t->how = how;
	return t;
}

static void track_append_process(struct mem_track *t, const struct tracked *p)
{
	array_reserve(t->v, t->n, t->room);
	t->v[t->n++] = *p;
}

int mem_track_add(struct mem_track *t, pid_t host, uint64_t id, struct err *err)
{
	struct tracked p = { .host = host, .id = id, .pidfd = pidfd_open(host, 0), .uffd = -1, .mem = -1 };
	struct vmas m = { 0 };
	int rc;

	if (p.pidfd < 0)
		return err_sys(err, errno, "process %d cannot be opened", host);
	rc = t->how == MEM_TRACK_NONE
		     ? err_set(err, ENOTSUP,
			       "this kernel has neither userfaultfd with asynchronous write protection (Linux 6.7) nor soft-dirty bits")
		     : track_read_vmas(&p, &m, err);
	if (!rc && t->how == MEM_TRACK_PROTECT)
		rc = track_make_uffd(&p, err);
	else if (!rc && track_is_sparse(&p, &m))
		rc = err_set(err, ENOTSUP, "it has mapped far more memory than it uses");
	vmas_free(&m);
	if (rc) {
		track_close(&p);
		return err_wrap(err, "writes of process %d cannot be tracked", (int)id);
	}
	track_append_process(t, &p);
	return 0;
}

/* After exec the memory of a userfaultfd is gone, and the kernel refuses every call with another errno before it checks
 * the range. EINVAL (nothing is mapped there) means that the memory exists. */
static bool track_uffd_has_memory(int uffd)
{
	return uffd_register(uffd, MEM_PAGE, 2 * MEM_PAGE) == 0 || errno == EINVAL;
}

int mem_track_adopt(struct mem_track *t, const struct mem_tracked *from)
{
	struct tracked p = {
		.host = from->host, .id = from->id, .pidfd = from->pidfd, .uffd = from->uffd, .mem = -1, .scanned = true
	};

	if (!track_alive(&p) || !track_uffd_has_memory(p.uffd)) {
		track_close(&p);
		errno = ESRCH;
		return -1;
	}
	track_append_process(t, &p);
	return 0;
}

void mem_track_get(const struct mem_track *t, size_t n, struct mem_tracked *out)
{
	const struct tracked *p = &t->v[n];

	*out = (struct mem_tracked){ p->host, p->id, p->pidfd, p->uffd };
}

size_t mem_track_count(const struct mem_track *t)
{
	return t->n;
}

static const struct tracked *track_find(const struct mem_track *t, uint64_t id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].id == id)
			return &t->v[i];
	return NULL;
}

bool mem_track_has(const struct mem_track *t, uint64_t id)
{
	return track_find(t, id) != NULL;
}

int mem_track_read(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	const struct tracked *p = track_find(arg, id);
	ssize_t got = p ? pread(p->mem, buf, len, (off_t)addr) : -1;

	if (got == (ssize_t)len)
		return 0;
	errno = EFAULT;
	return -1;
}

static void track_append_ranges(struct mem_ranges *all, struct mem_ranges *one)
{
	for (size_t i = 0; i < one->n; i++)
		mem_ranges_add(all, one->v[i].id, one->v[i].addr, mem_range_end(&one->v[i]));
	mem_ranges_free(one);
}

static int track_scan_process(struct mem_track *t, struct tracked *p, struct mem_ranges *clean, struct mem_ranges *present)
{
	struct mem_ranges clean_here = { 0 }, present_here = { 0 };
	struct vmas m;
	int rc;

	if (p->mem >= 0)
		close(p->mem);
	p->mem = open_proc(p->host, "mem", O_RDONLY);
	if (p->mem < 0 || track_read_vmas(p, &m, NULL))
		return -1;
	rc = t->how == MEM_TRACK_PROTECT ? track_scan_protect(p, &m, &clean_here, NULL)
					 : track_scan_soft_dirty(p, &m, &clean_here, NULL);
	if (!rc)
		rc = track_collect(p, &m, MEM_PAGES_PRESENT, &present_here, NULL);
	vmas_free(&m);
	/* If the process has ended, another one may have got its pid meanwhile. */
	if (rc || !track_alive(p)) {
		mem_ranges_free(&clean_here);
		mem_ranges_free(&present_here);
		return -1;
	}
	track_append_ranges(clean, &clean_here);
	track_append_ranges(present, &present_here);
	return 0;
}

/* Calls step for every process, and removes those for which it fails. */
static void track_each(struct mem_track *t, int (*step)(struct mem_track *t, struct tracked *p, void *arg), void *arg)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n; i++)
		if (step(t, &t->v[i], arg))
			track_close(&t->v[i]);
		else
			t->v[kept++] = t->v[i];
	t->n = kept;
}

struct track_scan {
	struct mem_ranges *clean, *present;
	struct stopped_threads stop;
	int64_t until;
};

static int track_scan_step(struct mem_track *t, struct tracked *p, void *arg)
{
	struct track_scan *k = arg;

	return track_scan_process(t, p, k->clean, k->present);
}

static int track_stop_step(struct mem_track *t, struct tracked *p, void *arg)
{
	struct track_scan *k = arg;

	(void)t;
	return stop_threads_add(&k->stop, p->host, k->until, NULL);
}

size_t mem_track_scan(struct mem_track *t, bool copy, struct mem_ranges *clean, struct mem_ranges *present)
{
	struct track_scan k = { .clean = clean, .present = present, .until = now_us() + STOP_MAX_US };
	size_t had = t->n;

	/* Soft-dirty bits are read and cleared while all processes are stopped. Write protection is examined and set
	 * again in one step, so there it is enough to stop the processes afterwards, for the writes in progress. */
	if (t->how == MEM_TRACK_PROTECT)
		track_each(t, track_scan_step, &k);
	if (copy || t->how == MEM_TRACK_SOFT_DIRTY)
		track_each(t, track_stop_step, &k);
	if (t->how == MEM_TRACK_SOFT_DIRTY)
		track_each(t, track_scan_step, &k);
	stop_threads_end(&k.stop);
	return had - t->n;
}

void mem_track_scan_frozen(struct mem_track *t, struct mem_ranges *clean)
{
	for (size_t i = 0; i < t->n; i++) {
		struct tracked *p = &t->v[i];
		struct mem_ranges clean_here = { 0 };
		struct vmas m;

		if (!track_alive(p) || !p->scanned || track_read_vmas(p, &m, NULL))
			continue;
		if (track_collect(p, &m, t->how == MEM_TRACK_PROTECT ? MEM_PAGES_UNWRITTEN : MEM_PAGES_SOFT_CLEAN,
				  &clean_here, NULL) == 0)
			track_append_ranges(clean, &clean_here);
		mem_ranges_free(&clean_here);
		vmas_free(&m);
	}
}

void mem_track_detach(struct mem_track *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		track_close(&t->v[i]);
	free(t->v);
	free(t);
}

void mem_track_free(struct mem_track *t)
{
	for (size_t i = 0; t && i < t->n; i++)
		track_release(&t->v[i]);
	mem_track_detach(t);
}

static int track_remove_step(struct mem_track *t, struct tracked *p, void *id)
{
	(void)t;
	if (p->id != *(const uint64_t *)id)
		return 0;
	track_release(p);
	return -1;
}

void mem_track_remove(struct mem_track *t, uint64_t id)
{
	track_each(t, track_remove_step, &id);
}
