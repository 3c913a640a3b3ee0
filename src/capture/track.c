#include "capture/track.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

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

#define STOP_MAX_US 500000 /* that a process may take to stand still */
#define RELEASE_STEP \
	(4u << 20)     /* bytes whose protection is taken away at a time: the process cannot map memory meanwhile */
#define RELEASE_US 300 /* and what it gets in between */
#define SPARSE                                                                                                \
	8 /* soft-dirty bits are read for every address of a mapping, used or not: so many times what is used \
	   */

struct tracked {
	pid_t host;
	uint64_t id;
	int pidfd;
	int uffd;    /* MEM_TRACK_PROTECT */
	int mem;     /* its memory as of the last look: whatever becomes of it, never that of another process */
	bool looked; /* at least once */
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

static bool alive(const struct tracked *p)
{
	struct pollfd f = { p->pidfd, POLLIN, 0 };

	return poll(&f, 1, 0) == 0;
}

static void forget(struct tracked *p)
{
	if (p->uffd >= 0)
		close(p->uffd);
	if (p->mem >= 0)
		close(p->mem);
	close(p->pidfd);
}

/* Mappings of a process that can be tracked. The kernel fills the memory of asynchronous reads at any time, past what a
 * look waits for. */
static int read_vmas(const struct tracked *p, struct vmas *m, struct err *err)
{
	if (vmas_read(p->host, m, err))
		return -1;
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].aio) {
			vmas_free(m);
			return err_set(err, ENOTSUP, "it reads and writes asynchronously (io_setup)");
		}
	return 0;
}

static int collect(const struct tracked *p, const struct vmas *m, enum mem_pages what, struct mem_ranges *out,
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

/* In a task that has the process's memory, and whose descriptors end with it. */
static int make_uffd_in(struct tracked *p, const struct helper_task *m, struct err *err)
{
	const long make[6] = { O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY };
	cleanup_close int pidfd = pidfd_open(m->pid, 0);
	long fd;

	if (helper_task_call(m, m->pid, "userfaultfd", SYS_userfaultfd, make, &fd, NULL, err))
		return -1;
	p->uffd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)fd, 0);
	return p->uffd < 0 ? err_sys(err, errno, "cannot take over its userfaultfd") : 0;
}

static int make_uffd(struct tracked *p, struct err *err)
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
	rc = helper_task_make(&m, TRACER_SELF, stop.tids[0], p->host, err) || make_uffd_in(p, &m, err) ? -1 : 0;
	if (helper_task_end(&m, rc ? NULL : err))
		rc = -1;
	stop_threads_end(&stop);
	if (!rc && uffd_begin(p->uffd))
		return err_sys(err, errno, "cannot set up its userfaultfd");
	return rc;
}

/* Clean is what was protected all the time since the look before: found so before mappings are protected that are new
 * or have lost it, and again when everything is protected anew. */
static int look_protect(struct tracked *p, const struct vmas *m, struct mem_ranges *clean, struct err *err)
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
		if (p->looked)
			rc = mem_pagemap_collect(pagemap, MEM_PAGES_UNWRITTEN, p->id, v->start, v->end, &before);
		/* A mapping that has gone meanwhile, or has changed, stays unprotected, and so unclean. */
		if (!rc && uffd_register(p->uffd, v->start, v->end) == 0)
			rc = mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, p->id, v->start, v->end, &now);
		mem_ranges_common(clean, before.v, before.n, now.v, now.n);
		mem_ranges_free(&before);
		mem_ranges_free(&now);
	}
	p->looked = true;
	return rc ? err_sys(err, errno, "cannot protect its pages") : 0;
}

/* In steps: the kernel lets nobody change the process's memory map while it goes over the pages of one. What lies
 * between the ranges has no pages and costs nothing. */
static void release_mapping(const struct tracked *p, const struct vma *v, const struct mem_ranges *there)
{
	uint64_t at = v->start, bytes = 0;

	for (size_t k = 0; k < there->n; k++) {
		uint64_t pos = there->v[k].addr, left = there->v[k].npages * MEM_PAGE;

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

static void release(const struct tracked *p)
{
	cleanup_close int pagemap = open_proc(p->host, "pagemap", O_RDONLY);
	struct vmas m;

	if (p->uffd < 0 || pagemap < 0 || !alive(p) || vmas_read(p->host, &m, NULL))
		return;
	for (size_t i = 0; i < m.n; i++) {
		const struct vma *v = &m.v[i];
		struct mem_ranges there = { 0 };

		if (!v->plain)
			continue;
		mem_pagemap_collect(pagemap, MEM_PAGES_PRESENT, p->id, v->start, v->end, &there);
		release_mapping(p, v, &there);
		mem_ranges_free(&there);
	}
	vmas_free(&m);
}

/* ---- soft-dirty bits --------------------------------------------------------------- */

/* A mapping that is hardly used would take longer to read than to copy. */
static bool sparse(const struct tracked *p, const struct vmas *m)
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

/* Stopped, or what is written between the two steps would be missed. */
static int look_soft(struct tracked *p, const struct vmas *m, struct mem_ranges *clean, struct err *err)
{
	cleanup_close int clear = open_proc(p->host, "clear_refs", O_WRONLY);

	if (p->looked && collect(p, m, MEM_PAGES_SOFT_CLEAN, clean, err))
		return -1;
	if (clear < 0 || write(clear, "4", 1) != 1)
		return err_sys(err, errno, "cannot clear its soft-dirty bits");
	p->looked = true;
	return 0;
}

/* ---- all ------------------------------------------------------------------------------ */

struct mem_track *mem_track_new(enum mem_tracking how)
{
	struct mem_track *t = xcalloc(1, sizeof(*t));

	t->how = how;
	return t;
}

static void append_process(struct mem_track *t, const struct tracked *p)
{
	if (t->n == t->room)
		t->v = xrealloc(t->v, (t->room = t->room ? 2 * t->room : 16) * sizeof(*t->v));
	t->v[t->n++] = *p;
}

int mem_track_add(struct mem_track *t, pid_t host, uint64_t id, struct err *err)
{
	struct tracked p = { .host = host, .id = id, .pidfd = pidfd_open(host, 0), .uffd = -1, .mem = -1 };
	struct vmas m = { 0 };
	int rc;

	if (p.pidfd < 0)
		return err_sys(err, errno, "process %d cannot be opened", host);
	rc = t->how == MEM_TRACK_NONE ? err_set(err, ENOTSUP, "this kernel cannot do it") : read_vmas(&p, &m, err);
	if (!rc && t->how == MEM_TRACK_PROTECT)
		rc = make_uffd(&p, err);
	else if (!rc && sparse(&p, &m))
		rc = err_set(err, ENOTSUP, "it has mapped far more memory than it uses");
	vmas_free(&m);
	if (rc) {
		forget(&p);
		return err_wrap(err, "writes of process %d cannot be tracked", (int)id);
	}
	append_process(t, &p);
	return 0;
}

/* What is asked of a userfaultfd whose memory is gone, by exec, is refused before the range is looked at. */
static bool has_its_memory(int uffd)
{
	return uffd_register(uffd, MEM_PAGE, 2 * MEM_PAGE) == 0 || errno == EINVAL;
}

int mem_track_adopt(struct mem_track *t, const struct mem_tracked *from)
{
	struct tracked p = {
		.host = from->host, .id = from->id, .pidfd = from->pidfd, .uffd = from->uffd, .mem = -1, .looked = true
	};

	if (!alive(&p) || !has_its_memory(p.uffd)) {
		forget(&p);
		errno = ESRCH;
		return -1;
	}
	append_process(t, &p);
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

static const struct tracked *find(const struct mem_track *t, uint64_t id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].id == id)
			return &t->v[i];
	return NULL;
}

bool mem_track_has(const struct mem_track *t, uint64_t id)
{
	return find(t, id) != NULL;
}

int mem_track_read(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	const struct tracked *p = find(arg, id);
	ssize_t got = p ? pread(p->mem, buf, len, (off_t)addr) : -1;

	if (got == (ssize_t)len)
		return 0;
	errno = EFAULT;
	return -1;
}

static void append(struct mem_ranges *all, struct mem_ranges *one)
{
	for (size_t i = 0; i < one->n; i++)
		mem_ranges_add(all, one->v[i].id, one->v[i].addr, one->v[i].addr + one->v[i].npages * MEM_PAGE);
	mem_ranges_free(one);
}

static int look_at(struct mem_track *t, struct tracked *p, struct mem_ranges *clean, struct mem_ranges *present)
{
	struct mem_ranges its = { 0 }, there = { 0 };
	struct vmas m;
	int rc;

	if (p->mem >= 0)
		close(p->mem);
	p->mem = open_proc(p->host, "mem", O_RDONLY);
	if (p->mem < 0 || read_vmas(p, &m, NULL))
		return -1;
	rc = t->how == MEM_TRACK_PROTECT ? look_protect(p, &m, &its, NULL) : look_soft(p, &m, &its, NULL);
	if (!rc)
		rc = collect(p, &m, MEM_PAGES_PRESENT, &there, NULL);
	vmas_free(&m);
	/* Another process may have got its pid meanwhile. */
	if (rc || !alive(p)) {
		mem_ranges_free(&its);
		mem_ranges_free(&there);
		return -1;
	}
	append(clean, &its);
	append(present, &there);
	return 0;
}

/* Takes out those for which step fails. */
static void each(struct mem_track *t, int (*step)(struct mem_track *t, struct tracked *p, void *arg), void *arg)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n; i++)
		if (step(t, &t->v[i], arg))
			forget(&t->v[i]);
		else
			t->v[kept++] = t->v[i];
	t->n = kept;
}

struct look {
	struct mem_ranges *clean, *present;
	struct stopped_threads stop;
	int64_t until;
};

static int look_step(struct mem_track *t, struct tracked *p, void *arg)
{
	struct look *k = arg;

	return look_at(t, p, k->clean, k->present);
}

static int stop_step(struct mem_track *t, struct tracked *p, void *arg)
{
	struct look *k = arg;

	(void)t;
	return stop_threads_add(&k->stop, p->host, k->until, NULL);
}

size_t mem_track_look(struct mem_track *t, bool copy, struct mem_ranges *clean, struct mem_ranges *present)
{
	struct look k = { .clean = clean, .present = present, .until = now_us() + STOP_MAX_US };
	size_t had = t->n;

	/* Soft-dirty bits are read and cleared while all stand still. Protection is given and looked at in one step, so
	 * there a stop afterwards is enough for what is in flight. */
	if (t->how == MEM_TRACK_PROTECT)
		each(t, look_step, &k);
	if (copy || t->how == MEM_TRACK_SOFT_DIRTY)
		each(t, stop_step, &k);
	if (t->how == MEM_TRACK_SOFT_DIRTY)
		each(t, look_step, &k);
	stop_threads_end(&k.stop);
	return had - t->n;
}

void mem_track_last(struct mem_track *t, struct mem_ranges *clean)
{
	for (size_t i = 0; i < t->n; i++) {
		struct tracked *p = &t->v[i];
		struct mem_ranges its = { 0 };
		struct vmas m;

		if (!alive(p) || !p->looked || read_vmas(p, &m, NULL))
			continue;
		if (collect(p, &m, t->how == MEM_TRACK_PROTECT ? MEM_PAGES_UNWRITTEN : MEM_PAGES_SOFT_CLEAN, &its,
			    NULL) == 0)
			append(clean, &its);
		mem_ranges_free(&its);
		vmas_free(&m);
	}
}

void mem_track_leave(struct mem_track *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		forget(&t->v[i]);
	free(t->v);
	free(t);
}

void mem_track_free(struct mem_track *t)
{
	for (size_t i = 0; t && i < t->n; i++)
		release(&t->v[i]);
	mem_track_leave(t);
}

static int drop_step(struct mem_track *t, struct tracked *p, void *id)
{
	(void)t;
	if (p->id != *(const uint64_t *)id)
		return 0;
	release(p);
	return -1;
}

void mem_track_drop(struct mem_track *t, uint64_t id)
{
	each(t, drop_step, &id);
}
