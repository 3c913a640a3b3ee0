#include "capture/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"
#include "capture/staging.h"
#include "image/image_internal.h"
#include "capture/shared_scan.h"
#include "image/xxh3.h"
#include "trace/remote_call.h"

#define UNIT (4u << 20) /* copied by one thread at a time */

struct object {
	uint64_t id; /* 0: not known yet */
	dev_t dev;
	uint64_t ino;
	int fd;
	uint64_t bytes; /* that it held when it was looked at */
	uint64_t size;  /* where it ends */
	bool wanted;
	size_t first, count; /* of the work */
	uint64_t pages;
	uint8_t *copy; /* its pages, one range behind the other; NULL: they are read where they are */
};

struct mem_shared {
	struct object *v;
	size_t n, room;
	uint64_t min; /* smaller ones are not kept */
	dev_t counted;
	dev_t kernels; /* the kernel's own tmpfs */
	struct mem_area area;
	struct mem_range *work;
	size_t n_work, work_room;
	uint64_t *at; /* per range: its place in the copy */
};

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
	mem_area_free(&s->area);
	free(s->v);
	free(s->work);
	free(s->at);
	free(s);
}

static struct object *find(const struct mem_shared *s, uint64_t id)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].id == id)
			return &s->v[i];
	return NULL;
}

static struct object *add(struct mem_shared *s, uint64_t id, int fd, const struct stat *st)
{
	if (s->n == s->room)
		s->v = xrealloc(s->v, (s->room = s->room ? 2 * s->room : 16) * sizeof(*s->v));
	s->v[s->n] = (struct object){ .id = id,
				      .dev = st->st_dev,
				      .ino = st->st_ino,
				      .fd = fd,
				      .bytes = (uint64_t)st->st_blocks * 512,
				      .size = (uint64_t)st->st_size };
	return &s->v[s->n++];
}

/* ---- before the freeze ------------------------------------------------------- */

static struct object *find_file(const struct mem_shared *s, dev_t dev, uint64_t ino)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].dev == dev && s->v[i].ino == ino && !mem_is_file(s->v[i].id))
			return &s->v[i];
	return NULL;
}

static bool keep(void *arg, int fd, const struct stat *st)
{
	struct mem_shared *s = arg;
	struct object *o;

	if ((uint64_t)st->st_blocks * 512 < s->min || find_file(s, st->st_dev, st->st_ino))
		return false;
	o = add(s, 0, fd, st);
	if (st->st_nlink == 0 && st->st_dev == s->counted)
		o->bytes = 0;
	return true;
}

void mem_shared_look(struct mem_shared *s, const pid_t *pids, int n, dev_t counted)
{
	s->min = ELIDE_SHARED_MIN;
	s->counted = counted;
	shared_scan(pids, n, O_RDONLY, keep, s);
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
	mem_area_make(&s->area, bytes);
}

/* ---- in the freeze ------------------------------------------------------------- */

bool mem_shared_add_file(struct mem_shared *s, const char *path, int fd)
{
	uint64_t id = mem_file_id(path);
	struct stat st;
	int own;

	/* Two paths with one hash: the second is not for us. */
	if (find(s, id) || fstat(fd, &st) || (own = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return false;
	add(s, id, own, &st)->wanted = true;
	return true;
}

static void add_range(struct mem_shared *s, struct object *o, uint64_t start, uint64_t end)
{
	uint64_t addr = start / MEM_PAGE * MEM_PAGE, npages = (end - addr + MEM_PAGE - 1) / MEM_PAGE;

	if (s->n_work == s->work_room) {
		s->work_room = s->work_room ? 2 * s->work_room : 64;
		s->work = xrealloc(s->work, s->work_room * sizeof(*s->work));
		s->at = xrealloc(s->at, s->work_room * sizeof(*s->at));
	}
	s->at[s->n_work] = o->pages * MEM_PAGE;
	s->work[s->n_work++] = (struct mem_range){ o->id, addr, npages };
	o->pages += npages;
	o->count++;
}

static int find_data(struct mem_shared *s, struct object *o, struct err *err)
{
	off_t data, hole = 0;

	o->first = s->n_work;
	while ((uint64_t)hole < o->size) {
		data = lseek(o->fd, hole, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(o->fd, data, SEEK_HOLE);
		if (hole < 0)
			return err_sys(err, errno, "cannot look for the data of shared memory");
		if ((uint64_t)data >= o->size)
			break;
		add_range(s, o, (uint64_t)data, (uint64_t)hole < o->size ? (uint64_t)hole : o->size);
	}
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int mark_wanted(struct mem_shared *s, const struct mem_shared_want *want, size_t n_want, struct err *err)
{
	for (size_t i = 0; i < n_want; i++) {
		struct object *o = find_file(s, want[i].dev ? want[i].dev : s->kernels, want[i].ino);
		struct stat st;

		if (!o)
			return err_set(err, ENOENT, "no process has the shared memory %llu that criu has seen",
				       (unsigned long long)want[i].ino);
		if (fstat(o->fd, &st))
			return err_sys(err, errno, "cannot look at shared memory");
		o->id = want[i].id;
		o->size = want[i].size ? want[i].size : (uint64_t)st.st_size;
		o->wanted = true;
	}
	return 0;
}

/* From the object itself: no process's page tables are touched, and no page of ours is faulted in. */
static int read_object(const struct object *o, uint64_t addr, uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = pread(o->fd, buf, len, (off_t)addr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0) {
			memset(buf, 0, len); /* behind the end, in the last page */
			return 0;
		}
		buf += n;
		addr += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

struct copying {
	struct mem_shared *s;
	struct mem_team team;
	struct unit {
		const struct object *o;
		uint64_t addr, len;
		uint8_t *to;
	} * v;
	size_t n, room;
	atomic_size_t next;
};

static void add_units(struct copying *c, const struct object *o)
{
	for (size_t i = o->first; i < o->first + o->count; i++) {
		uint64_t len = c->s->work[i].npages * MEM_PAGE;

		for (uint64_t done = 0; done < len; done += UNIT) {
			if (c->n == c->room)
				c->v = xrealloc(c->v, (c->room = c->room ? 2 * c->room : 256) * sizeof(*c->v));
			c->v[c->n++] = (struct unit){ o, c->s->work[i].addr + done, len - done < UNIT ? len - done : UNIT,
						      o->copy + c->s->at[i] + done };
		}
	}
}

static int copy_thread(void *arg, int n, struct err *err)
{
	struct copying *c = arg;
	size_t i;

	(void)n;
	while (mem_team_goes_on(&c->team) && (i = atomic_fetch_add(&c->next, 1)) < c->n)
		if (read_object(c->v[i].o, c->v[i].addr, c->v[i].to, c->v[i].len))
			return err_sys(err, errno, "cannot read shared memory");
	return 0;
}

static int copy_all(struct mem_shared *s, int threads, struct err *err)
{
	struct copying c = { .s = s };
	int rc = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct object *o = &s->v[i];

		o->copy = o->pages ? mem_area_take(&s->area, o->pages * MEM_PAGE) : NULL;
		if (o->copy)
			add_units(&c, o);
	}
	mem_team_init(&c.team, NULL);
	if (c.n)
		rc = mem_team_run(&c.team, mem_threads(threads), 0, copy_thread, &c, err);
	free(c.v);
	return rc;
}

int mem_shared_take(struct mem_shared *s, const struct mem_shared_want *want, size_t n_want, const pid_t *pids, int n,
		    int threads, struct err *err)
{
	if (mark_wanted(s, want, n_want, NULL)) {
		s->min = 0;
		shared_scan(pids, n, O_RDONLY, keep, s);
		if (mark_wanted(s, want, n_want, err))
			return -1;
	}
	qsort(s->v, s->n, sizeof(*s->v), by_id);
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].wanted && find_data(s, &s->v[i], err))
			return -1;
	return copy_all(s, threads, err);
}

bool mem_shared_now(const struct mem_shared *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].pages && !s->v[i].copy)
			return true;
	return false;
}

/* ---- afterwards ------------------------------------------------------------------ */

const struct mem_range *mem_shared_work(const struct mem_shared *s, size_t *n)
{
	*n = s->n_work;
	return s->work;
}

int mem_shared_read(const struct mem_shared *s, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	const struct object *o = find(s, id);
	size_t low, high;

	if (!o) {
		errno = EINVAL;
		return -1;
	}
	if (!o->copy)
		return read_object(o, addr, buf, len);
	low = o->first;
	high = o->first + o->count;
	while (high - low > 1) {
		size_t mid = (low + high) / 2;

		if (s->work[mid].addr <= addr)
			low = mid;
		else
			high = mid;
	}
	/* Every piece lies in one range of the work. */
	if (addr < s->work[low].addr || addr + len > s->work[low].addr + s->work[low].npages * MEM_PAGE) {
		errno = EINVAL;
		return -1;
	}
	memcpy(buf, o->copy + s->at[low] + (addr - s->work[low].addr), len);
	return 0;
}

/* ---- in a restore ------------------------------------------------------------------ */

struct search {
	struct mem_shared *s;
	const struct mem_image *m;
	const uint8_t *token;
	int failed; /* errno */
};

static bool match(void *arg, int fd, const struct stat *st)
{
	struct search *x = arg;
	struct mem_mark got, want;

	if (st->st_size < MEM_PAGE || pread(fd, &got, sizeof(got), 0) != sizeof(got))
		return false;
	mem_mark_make(&want, x->token, got.id);
	if (memcmp(&got, &want, sizeof(got)) || !mem_is_shared(got.id) || !mem_layout_space(&x->m->l, got.id) ||
	    find(x->s, got.id))
		return false;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MEM_PAGE))
		x->failed = errno;
	add(x->s, got.id, fd, st);
	return true;
}

int mem_shared_find(struct mem_shared *s, const struct mem_image *m, const uint8_t token[16], const pid_t *pids, int n,
		    struct err *err)
{
	struct search x = { .s = s, .m = m, .token = token };

	shared_scan(pids, n, O_RDWR, match, &x);
	if (x.failed)
		return err_sys(err, x.failed, "cannot prepare shared memory");
	for (size_t i = 0; i < m->l.n_spaces; i++)
		if (mem_is_shared(m->l.spaces[i].id) && !find(s, m->l.spaces[i].id))
			return err_set(err, ENOENT,
				       "the shared memory %llu of the epoch is not found in the restored processes",
				       (unsigned long long)(m->l.spaces[i].id & ~MEM_SHARED_ID));
	return 0;
}

bool mem_shared_target(struct mem_shared *s, const struct mem_image *m, const char *path, int fd)
{
	uint64_t id = mem_file_id(path);
	struct stat st;

	if (mem_layout_space(&m->l, id) && !find(s, id) && !fstat(fd, &st)) {
		add(s, id, fd, &st);
		return true;
	}
	close(fd);
	return false;
}

int mem_shared_check_targets(const struct mem_shared *s, const struct mem_image *m, struct err *err)
{
	for (size_t i = 0; i < m->l.n_spaces; i++)
		if (mem_is_file(m->l.spaces[i].id) && !find(s, m->l.spaces[i].id))
			return err_set(err, ENOENT, "a file whose data the epoch has is not in its archive of /dev/shm");
	return 0;
}

struct mem_range *mem_shared_spaces(const struct mem_image *m, bool files, size_t *n)
{
	struct mem_range *v = xcalloc(m->l.n_spaces + 1, sizeof(*v));

	*n = 0;
	for (size_t i = 0; i < m->l.n_spaces; i++)
		if (mem_is_file(m->l.spaces[i].id) == files && !mem_is_ghost(m->l.spaces[i].id))
			v[(*n)++] = (struct mem_range){ m->l.spaces[i].id, 0, (UINT64_C(1) << 63) / MEM_PAGE };
	return v;
}

int mem_shared_write(const struct mem_shared *s, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	const struct object *o = find(s, id);

	if (!o) {
		errno = ESRCH;
		return -1;
	}
	len = addr >= o->size ? 0 : o->size - addr < len ? (size_t)(o->size - addr) : len;
	return pwrite_all(o->fd, buf, len, addr);
}
