/* Shared memory in a checkpoint. fsched copies it in the freeze, into memory that was allocated before, which is faster
 * than letting criu write it. Without room for the copy criu writes it. In a vacate, where the tree stays frozen
 * anyway, fsched writes it without a copy. */
#include "worker/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/text.h"
#include "base/util.h"
#include "criu/criu_ghost.h"
#include "capture/shared.h"
#include "trace/tracer.h"

#define GROWTH(bytes) ((bytes) / 16 + (4u << 20)) /* bytes by which it may grow until the freeze */

/* Bytes in the job's /dev/shm, deleted files included. *dev: its device number; 0: not known. */
static uint64_t used_in_shm(pid_t init, dev_t *dev)
{
	struct statvfs v;
	struct stat st;
	char path[48];
	uint64_t bytes;

	*dev = 0;
	snprintf(path, sizeof(path), "/proc/%d/root/dev/shm", init);
	if (stat(path, &st) || statvfs(path, &v))
		return 0;
	*dev = st.st_dev;
	bytes = (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize;
	return bytes < FILES_CARRY_MIN ? 0 : bytes;
}

bool memory_shared_carry(void *arg, const char *path, int fd, const struct stat *st)
{
	(void)st;
	return mem_shared_add_file(arg, path, fd);
}

void memory_shared_begin(struct memory_step *s, struct worker *w, const struct tree *t, uint64_t *room)
{
	struct mem_shared *o = mem_shared_new();
	uint64_t bytes, reserve;
	char size[16];
	dev_t shm;

	bytes = used_in_shm(w->req.init, &shm);
	mem_shared_open(o, t->pids, t->n, shm);
	bytes += mem_shared_bytes(o);
	reserve = w->req.vacate ? 0 : bytes + GROWTH(bytes);
	if (!bytes || reserve > *room) {
		if (bytes)
			worker_warn(w,
				    "there is no memory for a copy of the job's shared memory (%s): criu writes it while the job stands still",
				    format_size(bytes, size, sizeof(size)));
		mem_shared_free(o);
		return;
	}
	*room -= reserve;
	mem_shared_reserve(o, reserve);
	s->objects = o;
}

/* The size of anonymous shared memory as criu says: its end may not be mapped any more. 0 = a memfd. */
static uint64_t shared_size(const struct criu_facts *f, uint64_t ino)
{
	size_t low = 0, high = f->n_shared;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (f->shared[mid].ino < ino)
			low = mid + 1;
		else
			high = mid;
	}
	return low < f->n_shared && f->shared[low].ino == ino ? f->shared[low].size : 0;
}

/* A deleted file is named by the number that criu has given it. */
static int shared_name_objects(struct mem_shared_want *want, const struct elided_object *v, size_t n,
			       const struct criu_facts *f, int criufd, struct err *err)
{
	cleanup_free struct criu_ghost *ghosts = NULL;
	size_t n_ghosts = 0;
	bool read = false;

	for (size_t i = 0; i < n; i++) {
		const dev_t dev = v[i].dev ? makedev((unsigned)(v[i].dev >> 32), (unsigned)v[i].dev) : 0;
		const struct criu_ghost *g;

		want[i] = (struct mem_shared_want){ MEM_SHARED_ID | v[i].ino, dev, v[i].ino,
						    dev ? 0 : shared_size(f, v[i].ino) };
		if (!dev)
			continue;
		if (!read && criu_ghosts_read(criufd, &ghosts, &n_ghosts, err))
			return -1;
		read = true;
		g = criu_ghosts_find(ghosts, n_ghosts, dev, v[i].ino);
		if (!g)
			return err_set(err, ENOENT, "criu has no image of the deleted file %llu",
				       (unsigned long long)v[i].ino);
		want[i].id = MEM_GHOST_ID | g->number;
	}
	return 0;
}

static int shared_take(struct memory_step *s, const struct worker *w, const struct criu_facts *f, int criufd,
		       int tracer_fd, struct err *err)
{
	cleanup_free struct mem_shared_want *want = NULL;
	cleanup_free struct elided_object *left_out = NULL;
	struct tree t;
	size_t n;
	int rc;

	if (fault(w, FAULT_SHARED_FAILS))
		return err_set(err, 0, "a fault on purpose");
	fault_hang(w, FAULT_HANG_IN_SHARED);
	if (tracer_shared(tracer_fd, &left_out, &n))
		return err_sys(err, errno, "criu does not tell what it has left out");
	want = xcalloc(n + 1, sizeof(*want));
	if (shared_name_objects(want, left_out, n, f, criufd, err) || tree_read(w->req.init, &t, err))
		return -1;
	rc = mem_shared_capture(s->objects, want, n, t.pids, t.n, (int)w->conf.threads, err);
	tree_free(&t);
	return rc;
}

int memory_shared_freeze(struct memory_step *s, const struct worker *w, const struct criu_facts *f, int criufd,
			 int tracer_fd, struct err *err)
{
	if (!s->objects)
		return 0;
	s->shared_failed = true;
	if (shared_take(s, w, f, criufd, tracer_fd, err))
		return err_wrap(err, "shared memory");
	s->shared_failed = false;
	return 0;
}
