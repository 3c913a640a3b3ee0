/* Blocks of copies that are kept in memory while the job is frozen, and written when it runs again. The kernel makes a
 * process that writes much wait for the disk, or for the file server. */
#include "files/files_internal.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

#define MOST                 (UINT64_C(1) << 30)
#define COPIES_MAX           256 /* that are open at the same time for this */
#define MADV_POPULATE_WRITE_ 23  /* Linux 5.14 */

struct staged {
	char *blocks;
	size_t mapped; /* bytes */
	size_t room;   /* blocks */
	atomic_size_t n;
	struct staged_block {
		uint64_t at;
		uint32_t len;
		int out;
	} * v; /* of each block */
	int copies[COPIES_MAX];
	int n_copies;
};

struct staged *staged_open(uint64_t most, uint64_t expected)
{
	const uint64_t room = most < MOST ? most : MOST;
	struct staged *s;
	char *blocks;

	if (room < FILES_BLOCK)
		return NULL;
	blocks = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (blocks == MAP_FAILED)
		return NULL;
	madvise(blocks, room, MADV_HUGEPAGE);
	/* Older kernels get the pages one by one in the freeze. */
	madvise(blocks, expected < room ? expected : room, MADV_POPULATE_WRITE_);
	s = xcalloc(1, sizeof(*s));
	s->blocks = blocks;
	s->mapped = room;
	s->room = (size_t)(room / FILES_BLOCK);
	s->v = xcalloc(s->room, sizeof(*s->v));
	return s;
}

int staged_keep(struct staged *s, int out)
{
	int fd = s && s->n_copies < COPIES_MAX ? fcntl(out, F_DUPFD_CLOEXEC, 3) : -1;

	if (fd >= 0)
		s->copies[s->n_copies++] = fd;
	return fd;
}

bool staged_add(struct staged *s, int out, const char *buf, size_t len, uint64_t at)
{
	size_t i;

	if (out < 0 || atomic_load(&s->n) >= s->room)
		return false;
	i = atomic_fetch_add(&s->n, 1);
	if (i >= s->room)
		return false;
	memcpy(s->blocks + i * FILES_BLOCK, buf, len);
	s->v[i] = (struct staged_block){ at, (uint32_t)len, out };
	return true;
}

int staged_write(struct staged *s)
{
	const size_t n = !s ? 0 : atomic_load(&s->n) < s->room ? atomic_load(&s->n) : s->room;

	for (size_t i = 0; i < n; i++)
		if (copy_block(s->v[i].out, s->blocks + i * FILES_BLOCK, s->v[i].len, s->v[i].at))
			return -1;
	return 0;
}

void staged_close(struct staged *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->n_copies; i++)
		close(s->copies[i]);
	munmap(s->blocks, s->mapped);
	free(s->v);
	free(s);
}
