#include "capture/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/array.h"
#include "base/proc.h"
#include "base/util.h"
#include "capture/staging.h"
#include "capture/fork.h"

#define UNIT_PAGES  1024u /* copied by one thread at a time: 4 MiB */
#define UNIT_RANGES 256u
#define THREADS_MAX 16

/* A process and the copies of its pages. */
struct held {
	struct mem_process *p;
	uint8_t *kept; /* copies of split.kept, one range behind the other */
	uint8_t *copy; /* MEM_STAGED: copies of take likewise; NULL: not copied */
	uint64_t *at;  /* MEM_STAGED: offset in copy of each range */
	struct mem_fork fork;
	int memfd; /* MEM_FORKED: /proc/PID/mem of the child; -1: none */
};

struct mem_snapshot {
	struct mem_staging staging;
	struct {
		void *p;
		size_t len;
	} extra[64]; /* further copies, in memory that was not faulted in before */
	unsigned n_extra;
	int threads;
	struct held *v;
	size_t n;
	struct mem_range *work;
	size_t n_work;
	atomic_ullong unreadable;
};

/* ---- memory for copies ----------------------------------------------------- */

static void *snapshot_map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct mem_snapshot *mem_snapshot_new(uint64_t reserve, int threads)
{
	struct mem_snapshot *s = xcalloc(1, sizeof(*s));

	s->threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
	mem_staging_make(&s->staging, reserve);
	return s;
}

static uint8_t *snapshot_take_room(struct mem_snapshot *s, size_t len)
{
	uint8_t *p = mem_staging_take(&s->staging, len);

	if (p)
		return p;
	if (s->n_extra == ARRAY_SIZE(s->extra))
		return NULL;
	p = snapshot_map(len);
	if (p) {
		s->extra[s->n_extra].p = p;
		s->extra[s->n_extra++].len = len;
	}
	return p;
}

/* ---- copying in parallel ----------------------------------------------------- */

struct unit {
	const struct held *from;
	const struct mem_range *ranges; /* the first may begin skip pages later, the last may be cut */
	size_t n;
	uint64_t skip, pages;
	uint8_t *to;
};

struct copier {
	struct mem_snapshot *s;
	struct unit *v;
	size_t n, room;
	atomic_size_t next;
	atomic_int failed; /* errno */
};

static void push_unit(struct copier *c, struct unit u)
{
	array_reserve(c->v, c->n, c->room);
	c->v[c->n++] = u;
}

static void add_ranges(struct copier *c, const struct held *from, const struct mem_range *r, size_t n, uint8_t *to)
{
	struct unit u = { .from = from, .to = to };

	for (size_t i = 0; i < n; i++) {
		for (uint64_t done = 0, take; done < r[i].npages; done += take) {
			if (u.pages == UNIT_PAGES || u.n == UNIT_RANGES) {
				push_unit(c, u);
				to += u.pages * MEM_PAGE;
				u = (struct unit){ .from = from, .to = to };
			}
			if (!u.n) {
				u.ranges = &r[i];
				u.skip = done;
			}
			take = r[i].npages - done;
			take = take < UNIT_PAGES - u.pages ? take : UNIT_PAGES - u.pages;
			u.n++;
			u.pages += take;
		}
	}
	if (u.n)
		push_unit(c, u);
}

/* process_vm_readv() is faster than /proc/PID/mem, but since Linux 5.19 it makes a copy of every page that a process
 * shares since a fork, even for a read. So processes that share pages are read from /proc/PID/mem, which is opened for
 * each unit: there may be more processes than descriptors. */
static int open_shared(const struct held *h)
{
	return h->p->shares ? open_proc(h->p->split.host, "mem", O_RDONLY) : -1;
}

static ssize_t read_memory(const struct held *h, int mem, const struct iovec *local, const struct iovec *remote)
{
	return h->p->shares ? pread(mem, local->iov_base, local->iov_len, (off_t)(uintptr_t)remote->iov_base)
			    : process_vm_readv(h->p->split.host, local, 1, remote, 1, 0);
}

/* Page by page. A page that cannot be read becomes zeros, as in criu. */
static int copy_slowly(struct copier *c, const struct held *from, int mem, const struct iovec *remote, uint8_t *to)
{
	for (size_t off = 0; off < remote->iov_len; off += MEM_PAGE) {
		struct iovec l = { to + off, MEM_PAGE }, r = { (uint8_t *)remote->iov_base + off, MEM_PAGE };

		if (read_memory(from, mem, &l, &r) == MEM_PAGE)
			continue;
		if (errno != EFAULT && errno != EIO && errno != ENOMEM)
			return -1;
		memset(to + off, 0, MEM_PAGE);
		atomic_fetch_add(&c->s->unreadable, 1);
	}
	return 0;
}

static int copy_unit(struct copier *c, const struct unit *u)
{
	struct iovec remote[UNIT_RANGES], local = { u->to, u->pages * MEM_PAGE };
	cleanup_close int mem = open_shared(u->from);
	uint64_t left = u->pages, skip = u->skip;
	uint8_t *to = u->to;

	for (size_t i = 0; i < u->n; i++, skip = 0) {
		uint64_t take = u->ranges[i].npages - skip;

		take = take < left ? take : left;
		remote[i] = (struct iovec){ (void *)(uintptr_t)(u->ranges[i].addr + skip * MEM_PAGE), take * MEM_PAGE };
		left -= take;
	}
	if (!u->from->p->shares &&
	    process_vm_readv(u->from->p->split.host, &local, 1, remote, u->n, 0) == (ssize_t)local.iov_len)
		return 0;
	for (size_t i = 0; i < u->n; to += remote[i++].iov_len) {
		struct iovec part = { to, remote[i].iov_len };

		if (read_memory(u->from, mem, &part, &remote[i]) != (ssize_t)part.iov_len &&
		    copy_slowly(c, u->from, mem, &remote[i], to))
			return -1;
	}
	return 0;
}

static void *copy_units(void *arg)
{
	struct copier *c = arg;
	size_t i;

	while ((i = atomic_fetch_add(&c->next, 1)) < c->n && !c->failed)
		if (copy_unit(c, &c->v[i]))
			c->failed = errno;
	return NULL;
}

static int run_copier(struct copier *c, struct err *err)
{
	pthread_t threads[THREADS_MAX];
	int n = 0;

	while (n + 1 < c->s->threads && (size_t)n + 1 < c->n && pthread_create(&threads[n], NULL, copy_units, c) == 0)
		n++;
	copy_units(c);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	free(c->v);
	return c->failed ? err_sys(err, c->failed, "cannot read the job's memory") : 0;
}

/* ---- methods ---------------------------------------------------------------------- */

static void snapshot_fall_back(struct held *h, enum mem_method to, const char *why)
{
	snprintf(h->p->why, sizeof(h->p->why), "%.*s", (int)sizeof(h->p->why) - 1, why);
	h->p->method = to;
	h->p->fell_back = true;
}

static void snapshot_end_fork(struct held *h)
{
	if (h->memfd >= 0)
		close(h->memfd);
	h->memfd = -1;
	mem_fork_end(&h->fork);
}

static void snapshot_try_fork(struct mem_snapshot *s, struct held *h, int tracer, uint64_t *cow_room)
{
	const struct mem_split *sp = &h->p->split;
	uint64_t bytes = h->p->take.pages * MEM_PAGE;
	enum mem_method other = mem_staging_fits(&s->staging, bytes) ? MEM_STAGED : MEM_DIRECT;
	struct err err = { 0 };

	if (tracer < 0 || *cow_room < bytes) {
		snapshot_fall_back(h, other,
				   tracer < 0 ? "fork is not possible"
					      : "no memory for what the job would rewrite after a fork");
		return;
	}
	if (mem_fork_make(tracer, sp->inner, sp->host, &h->fork, &err)) {
		snapshot_fall_back(h, other, err.text);
		return;
	}
	h->memfd = open_proc(h->fork.host, "mem", O_RDONLY);
	if (h->memfd >= 0 && mem_fork_holds(&h->fork, h->p->take.v, h->p->take.n)) {
		*cow_room -= bytes;
		return;
	}
	snapshot_end_fork(h);
	snapshot_fall_back(h, other, "a forked child lacks part of its memory (MADV_DONTFORK or MADV_WIPEONFORK)");
}

static int snapshot_stage(struct mem_snapshot *s, struct held *h, struct copier *c)
{
	const struct mem_ranges *take = &h->p->take;
	uint64_t at = 0;

	h->copy = snapshot_take_room(s, take->pages * MEM_PAGE);
	if (!h->copy)
		return -1;
	h->at = xcalloc(take->n + 1, sizeof(*h->at));
	for (size_t i = 0; i < take->n; i++) {
		h->at[i] = at;
		at += take->v[i].npages * MEM_PAGE;
	}
	add_ranges(c, h, take->v, take->n, h->copy);
	return 0;
}

static void snapshot_choose_method(struct mem_snapshot *s, struct held *h, int tracer, uint64_t *cow_room)
{
	h->p->method = h->p->wanted;
	if (!h->p->take.n) {
		h->p->method = MEM_STAGED;
		return;
	}
	if (h->p->method == MEM_STAGED && !mem_staging_fits(&s->staging, h->p->take.pages * MEM_PAGE))
		snapshot_fall_back(h, tracer >= 0 ? MEM_FORKED : MEM_DIRECT,
				   "it has grown since memory for a copy was made");
	h->p->fell_back = h->p->method == MEM_DIRECT && h->p->wanted != MEM_DIRECT; /* a fork of a process that has
										       grown is not worth a warning */
	if (h->p->method == MEM_FORKED)
		snapshot_try_fork(s, h, tracer, cow_room);
}

/* One piece of memory for all processes, which may be many. */
static int snapshot_make_room_for_kept(struct mem_snapshot *s, struct err *err)
{
	uint64_t pages = 0;
	uint8_t *room;

	for (size_t i = 0; i < s->n; i++)
		pages += s->v[i].p->split.kept_pages;
	if (!pages)
		return 0;
	room = snapshot_take_room(s, pages * MEM_PAGE);
	if (!room)
		return err_set(err, ENOMEM, "there is no memory for a copy of the pages that belong into criu's images");
	for (size_t i = 0; i < s->n; i++) {
		s->v[i].kept = room;
		room += s->v[i].p->split.kept_pages * MEM_PAGE;
	}
	return 0;
}

int mem_snapshot_take(struct mem_snapshot *s, struct mem_process *procs, size_t n, int tracer, uint64_t cow_room,
		      struct err *err)
{
	struct copier c = { .s = s };

	s->v = xcalloc(n + 1, sizeof(*s->v));
	s->n = n;
	for (size_t i = 0; i < n; i++)
		s->v[i] = (struct held){ .p = &procs[i], .fork.pidfd = -1, .memfd = -1 };
	if (snapshot_make_room_for_kept(s, err))
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct mem_split *sp = &procs[i].split;

		add_ranges(&c, &s->v[i], sp->kept, sp->n_kept, s->v[i].kept);
		s->n_work += sp->n_ours;
	}
	s->work = xcalloc(s->n_work + 1, sizeof(*s->work));
	s->n_work = 0;
	for (size_t i = 0; i < n; i++) {
		const struct mem_split *sp = &procs[i].split;

		snapshot_choose_method(s, &s->v[i], tracer, &cow_room);
		if (procs[i].method == MEM_STAGED && procs[i].take.n && snapshot_stage(s, &s->v[i], &c))
			snapshot_fall_back(&s->v[i], MEM_DIRECT, "there is no memory for a copy");
		for (size_t k = 0; k < sp->n_ours; k++)
			s->work[s->n_work++] = sp->ours[k];
	}
	return run_copier(&c, err);
}

bool mem_snapshot_needs_freeze(const struct mem_snapshot *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].p->method == MEM_DIRECT && s->v[i].p->take.n)
			return true;
	return false;
}

/* ---- afterwards ------------------------------------------------------------------ */

int mem_snapshot_write_kept(struct mem_snapshot *s, int images_fd, struct err *err)
{
	for (size_t i = 0; i < s->n; i++)
		if (mem_split_write_kept(&s->v[i].p->split, images_fd, s->v[i].kept, err))
			return -1;
	return 0;
}

static struct held *snapshot_find(struct mem_snapshot *s, uint64_t id)
{
	for (size_t i = 0; i < s->n; i++)
		if ((uint64_t)s->v[i].p->split.inner == id)
			return &s->v[i];
	return NULL;
}

/* Index of the range that contains addr; n if there is none. */
static size_t snapshot_find_range(const struct mem_range *r, size_t n, uint64_t addr)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (r[mid].addr + r[mid].npages * MEM_PAGE <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < n && r[low].addr <= addr ? low : n;
}

static int snapshot_read_copy(const struct held *h, uint64_t addr, uint8_t *buf, size_t len)
{
	const struct mem_ranges *take = &h->p->take;

	while (len > 0) {
		size_t i = snapshot_find_range(take->v, take->n, addr), part;
		uint64_t off;

		if (i == take->n) {
			errno = EINVAL;
			return -1;
		}
		off = addr - take->v[i].addr;
		part = take->v[i].npages * MEM_PAGE - off < len ? (size_t)(take->v[i].npages * MEM_PAGE - off) : len;
		memcpy(buf, h->copy + h->at[i] + off, part);
		buf += part;
		addr += part;
		len -= part;
	}
	return 0;
}

static int snapshot_read_pages(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	struct held *h = snapshot_find(arg, id);
	struct iovec local = { buf, len }, remote = { (void *)(uintptr_t)addr, len };
	cleanup_close int mem = -1;
	ssize_t got;

	if (!h) {
		errno = EINVAL;
		return -1;
	}
	if (h->copy)
		return snapshot_read_copy(h, addr, buf, len);
	mem = h->memfd < 0 ? open_shared(h) : -1;
	got = h->memfd >= 0 ? pread(h->memfd, buf, len, (off_t)addr) : read_memory(h, mem, &local, &remote);
	if (got == (ssize_t)len)
		return 0;
	if (got >= 0 || errno == EIO)
		errno = EFAULT;
	return -1;
}

struct mem_source mem_snapshot_source(struct mem_snapshot *s)
{
	return (struct mem_source){ snapshot_read_pages, s };
}

const struct mem_range *mem_snapshot_ranges(const struct mem_snapshot *s, size_t *n)
{
	*n = s->n_work;
	return s->work;
}

uint64_t mem_snapshot_unreadable(const struct mem_snapshot *s)
{
	return s->unreadable;
}

void mem_snapshot_free(struct mem_snapshot *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		snapshot_end_fork(&s->v[i]);
		free(s->v[i].at);
	}
	for (unsigned i = 0; i < s->n_extra; i++)
		munmap(s->extra[i].p, s->extra[i].len);
	mem_staging_free(&s->staging);
	free(s->work);
	free(s->v);
	free(s);
}
