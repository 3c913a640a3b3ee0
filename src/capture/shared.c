#include "capture/shared_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/io.h"
#include "base/util.h"
#include "image/threads.h"
#include "capture/shared_scan.h"
#include "base/xxh3.h"
#include "trace/remote_call.h"

#define UNIT (4u << 20) /* copied by one thread at a time */

struct mem_shared *mem_shared_new(void)
{
	struct mem_shared *s = xcalloc(1, sizeof(*s));

	s->kernels = shared_scan_device();
	return s;
}

void mem_shared_free(struct mem_shared *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++)
		close(s->v[i].fd);
	mem_staging_free(&s->staging);
	free(s->v);
	free(s->work);
	free(s->at);
	free(s);
}

struct shared_object *shared_find(const struct mem_shared *s, uint64_t id)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].id == id)
			return &s->v[i];
	return NULL;
}

struct shared_object *shared_add(struct mem_shared *s, uint64_t id, int fd, const struct stat *st)
{
	array_reserve(s->v, s->n, s->room);
	s->v[s->n] = (struct shared_object){ .id = id,
					     .dev = st->st_dev,
					     .ino = st->st_ino,
					     .fd = fd,
					     .bytes = (uint64_t)st->st_blocks * 512,
					     .size = (uint64_t)st->st_size };
	return &s->v[s->n++];
}

/* ---- before the freeze ------------------------------------------------------- */

static struct shared_object *shared_find_inode(const struct mem_shared *s, dev_t dev, uint64_t ino)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].dev == dev && s->v[i].ino == ino && !mem_is_file(s->v[i].id))
			return &s->v[i];
	return NULL;
}

static bool shared_keep(void *arg, int fd, const struct stat *st)
{
	struct mem_shared *s = arg;
	struct shared_object *o;

	if ((uint64_t)st->st_blocks * 512 < s->min || shared_find_inode(s, st->st_dev, st->st_ino))
		return false;
	o = shared_add(s, 0, fd, st);
	if (st->st_nlink == 0 && st->st_dev == s->counted)
		o->bytes = 0;
	return true;
}

void mem_shared_open(struct mem_shared *s, const pid_t *pids, int n, dev_t counted)
{
	s->min = ELIDE_SHARED_MIN;
	s->counted = counted;
	shared_scan_processes(pids, n, O_RDONLY, shared_keep, s);
}

uint64_t mem_shared_bytes(const struct mem_shared *s)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < s->n; i++)
		sum += s->v[i].bytes;
	return sum;
}

void mem_shared_reserve(struct mem_shared *s, uint64_t bytes)
{
	mem_staging_make(&s->staging, bytes);
}

/* ---- in the freeze ------------------------------------------------------------- */

bool mem_shared_add_file(struct mem_shared *s, const char *path, int fd)
{
	uint64_t id = mem_file_id(path);
	struct stat st;
	int own;

	/* Two paths with the same hash: the second file is saved in another way. */
	if (shared_find(s, id) || fstat(fd, &st) || (own = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return false;
	shared_add(s, id, own, &st)->wanted = true;
	return true;
}

static void shared_add_range(struct mem_shared *s, struct shared_object *o, uint64_t start, uint64_t end)
{
	uint64_t addr = start / MEM_PAGE * MEM_PAGE, npages = (end - addr + MEM_PAGE - 1) / MEM_PAGE;

	array_reserve(s->work, s->n_work, s->work_room);
	array_reserve(s->at, s->n_work, s->at_room);
	s->at[s->n_work] = o->pages * MEM_PAGE;
	s->work[s->n_work++] = (struct mem_range){ o->id, addr, npages };
	o->pages += npages;
	o->count++;
}

static int shared_find_data(struct mem_shared *s, struct shared_object *o, struct err *err)
{
	off_t data, hole = 0;

	o->first = s->n_work;
	while ((uint64_t)hole < o->size) {
		data = lseek(o->fd, hole, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(o->fd, data, SEEK_HOLE);
		if (hole < 0)
			return err_sys(err, errno, "cannot find the data of shared memory (SEEK_DATA)");
		if ((uint64_t)data >= o->size)
			break;
		shared_add_range(s, o, (uint64_t)data, (uint64_t)hole < o->size ? (uint64_t)hole : o->size);
	}
	return 0;
}

static int shared_by_id(const void *a, const void *b)
{
	const struct shared_object *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int shared_mark_wanted(struct mem_shared *s, const struct mem_shared_want *want, size_t n_want, struct err *err)
{
	for (size_t i = 0; i < n_want; i++) {
		struct shared_object *o = shared_find_inode(s, want[i].dev ? want[i].dev : s->kernels, want[i].ino);
		struct stat st;

		if (!o)
			return err_set(err, ENOENT,
				       "criu has left out the shared memory object %llu, but no process has it",
				       (unsigned long long)want[i].ino);
		if (fstat(o->fd, &st))
			return err_sys(err, errno, "cannot get the size of shared memory");
		o->id = want[i].id;
		o->size = want[i].size ? want[i].size : (uint64_t)st.st_size;
		o->wanted = true;
	}
	return 0;
}

/* Reads from the object itself: this touches no page tables of a process and faults in no page of ours. */
static int shared_read_object(const struct shared_object *o, uint64_t addr, uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = pread(o->fd, buf, len, (off_t)addr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0) {
			memset(buf, 0, len); /* the rest of the last page lies behind the end */
			return 0;
		}
		buf += n;
		addr += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

struct shared_copying {
	struct mem_shared *s;
	struct mem_team team;
	struct unit {
		const struct shared_object *o;
		uint64_t addr, len;
		uint8_t *to;
	} * v;
	size_t n, room;
	atomic_size_t next;
};

static void shared_add_units(struct shared_copying *c, const struct shared_object *o)
{
	for (size_t i = o->first; i < o->first + o->count; i++) {
		uint64_t len = c->s->work[i].npages * MEM_PAGE;

		for (uint64_t done = 0; done < len; done += UNIT) {
			array_reserve(c->v, c->n, c->room);
			c->v[c->n++] = (struct unit){ o, c->s->work[i].addr + done, len - done < UNIT ? len - done : UNIT,
						      o->copy + c->s->at[i] + done };
		}
	}
}

static int shared_copy_thread(void *arg, int n, struct err *err)
{
	struct shared_copying *c = arg;
	size_t i;

	(void)n;
	while (mem_team_goes_on(&c->team) && (i = atomic_fetch_add(&c->next, 1)) < c->n)
		if (shared_read_object(c->v[i].o, c->v[i].addr, c->v[i].to, c->v[i].len))
			return err_sys(err, errno, "cannot read shared memory");
	return 0;
}

static int shared_copy_all(struct mem_shared *s, int threads, struct err *err)
{
	struct shared_copying c = { .s = s };
	int rc = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct shared_object *o = &s->v[i];

		o->copy = o->pages ? mem_staging_take(&s->staging, o->pages * MEM_PAGE) : NULL;
		if (o->copy)
			shared_add_units(&c, o);
	}
	mem_team_init(&c.team, NULL);
	if (c.n)
		rc = mem_team_run(&c.team, mem_threads(threads), 0, shared_copy_thread, &c, err);
	free(c.v);
	return rc;
}

int mem_shared_capture(struct mem_shared *s, const struct mem_shared_want *want, size_t n_want, const pid_t *pids,
		       int n, int threads, struct err *err)
{
	if (shared_mark_wanted(s, want, n_want, NULL)) {
		s->min = 0;
		shared_scan_processes(pids, n, O_RDONLY, shared_keep, s);
		if (shared_mark_wanted(s, want, n_want, err))
			return -1;
	}
	qsort(s->v, s->n, sizeof(*s->v), shared_by_id);
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].wanted && shared_find_data(s, &s->v[i], err))
			return -1;
	return shared_copy_all(s, threads, err);
}

bool mem_shared_needs_freeze(const struct mem_shared *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].pages && !s->v[i].copy)
			return true;
	return false;
}

/* ---- afterwards ------------------------------------------------------------------ */

const struct mem_range *mem_shared_ranges(const struct mem_shared *s, size_t *n)
{
	*n = s->n_work;
	return s->work;
}

int mem_shared_read(const struct mem_shared *s, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	const struct shared_object *o = shared_find(s, id);
	size_t low, high;

	if (!o) {
		errno = EINVAL;
		return -1;
	}
	if (!o->copy)
		return shared_read_object(o, addr, buf, len);
	low = o->first;
	high = o->first + o->count;
	while (high - low > 1) {
		size_t mid = (low + high) / 2;

		if (s->work[mid].addr <= addr)
			low = mid;
		else
			high = mid;
	}
	/* The range before addr must contain all of it. */
	if (addr < s->work[low].addr || addr + len > s->work[low].addr + s->work[low].npages * MEM_PAGE) {
		errno = EINVAL;
		return -1;
	}
	memcpy(buf, o->copy + s->at[low] + (addr - s->work[low].addr), len);
	return 0;
}
