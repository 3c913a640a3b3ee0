/* Restores shared memory objects and files: finds where the data of the image belongs, and writes it there. */
#include "capture/shared_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "base/io.h"
#include "capture/shared_scan.h"

static bool shared_image_has(const struct mem_image *m, uint64_t id)
{
	size_t n;

	return mem_image_extents(m, id, &n) != NULL;
}

struct shared_search {
	struct mem_shared *s;
	const struct mem_image *m;
	const uint8_t *token;
	int failed; /* errno */
};

static bool shared_match_mark(void *arg, int fd, const struct stat *st)
{
	struct shared_search *x = arg;
	struct mem_mark got, want;

	if (st->st_size < MEM_PAGE || pread(fd, &got, sizeof(got), 0) != sizeof(got))
		return false;
	mem_mark_make(&want, x->token, got.id);
	if (memcmp(&got, &want, sizeof(got)) || !mem_is_shared(got.id) || !shared_image_has(x->m, got.id) ||
	    shared_find(x->s, got.id))
		return false;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MEM_PAGE))
		x->failed = errno;
	shared_add(x->s, got.id, fd, st);
	return true;
}

int mem_shared_open_restored(struct mem_shared *s, const struct mem_image *m, const uint8_t token[16],
			     const pid_t *pids, int n, struct err *err)
{
	struct shared_search x = { .s = s, .m = m, .token = token };
	size_t n_spaces;
	const struct mem_space *spaces = mem_image_spaces(m, &n_spaces);

	shared_scan_processes(pids, n, O_RDWR, shared_match_mark, &x);
	if (x.failed)
		return err_sys(err, x.failed, "cannot remove the mark from shared memory");
	for (size_t i = 0; i < n_spaces; i++)
		if (mem_is_shared(spaces[i].id) && !shared_find(s, spaces[i].id))
			return err_set(err, ENOENT,
				       "none of the restored processes has the shared memory object %llu of the epoch",
				       (unsigned long long)(spaces[i].id & ~MEM_SHARED_ID));
	return 0;
}

bool mem_shared_add_target(struct mem_shared *s, const struct mem_image *m, const char *path, int fd)
{
	uint64_t id = mem_file_id(path);
	struct stat st;

	if (shared_image_has(m, id) && !shared_find(s, id) && !fstat(fd, &st)) {
		shared_add(s, id, fd, &st);
		return true;
	}
	close(fd);
	return false;
}

int mem_shared_check_targets(const struct mem_shared *s, const struct mem_image *m, struct err *err)
{
	size_t n;
	const struct mem_space *spaces = mem_image_spaces(m, &n);

	for (size_t i = 0; i < n; i++)
		if (mem_is_file(spaces[i].id) && !shared_find(s, spaces[i].id))
			return err_set(err, ENOENT,
				       "the epoch has data of a file that is missing in its archive of /dev/shm");
	return 0;
}

struct mem_range *mem_shared_spaces(const struct mem_image *m, bool files, size_t *n)
{
	size_t n_spaces;
	const struct mem_space *spaces = mem_image_spaces(m, &n_spaces);
	struct mem_range *v = xcalloc(n_spaces + 1, sizeof(*v));

	*n = 0;
	for (size_t i = 0; i < n_spaces; i++)
		if (mem_is_file(spaces[i].id) == files && !mem_is_ghost(spaces[i].id))
			v[(*n)++] = (struct mem_range){ spaces[i].id, 0, (UINT64_C(1) << 63) / MEM_PAGE };
	return v;
}

int mem_shared_write(const struct mem_shared *s, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	const struct shared_object *o = shared_find(s, id);

	if (!o) {
		errno = ESRCH;
		return -1;
	}
	len = addr >= o->size ? 0 : o->size - addr < len ? (size_t)(o->size - addr) : len;
	return pwrite_all(o->fd, buf, len, addr);
}
