/* Finds the parts of a file that have not changed since a given moment without reading them, for files of a file system
 * that is a pod's alone (its /tmp as an image).
 *
 * A page has not changed if all of this holds:
 * - It has been in the page cache all the time. The file is mapped, and its pages are entered in the page table once.
 * An entry is removed with its page: when the file is truncated, ranges are removed, inserted or collapsed, a direct
 *   write drops the page, or memory is short. Nobody reads through the mapping, so an entry that is gone stays gone. A
 *   page that is still entered could only be changed by a write to it, which makes it dirty.
 * - It is not dirty or under writeback now (cachestat(2), Linux 6.5).
 * - Nothing has been written to the device since, so no dirty page has become clean. The device's count of writes is
 *   increased when a write has ended, after its pages have become clean, and until then it counts as in flight. So the
 *   count is read after the pages are examined.
 * If the device has been written to (fsync(2), memory is short), nothing is known. */
#include "files/files_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

#define PAGE                4096u
#define SYS_CACHESTAT       451 /* the same on all architectures */
#define MADV_POPULATE_READ_ 22  /* Linux 5.14 */
#define ENTRY_PRESENT       (UINT64_C(1) << 63)
#define ENTRIES             8192u /* of the page table that are read at once */
#define MEMORY_SHARE        4     /* of the node's memory, as 1/N, that is mapped at most */
#define FILES_MAX           256   /* that are open at the same time for this */

struct cachestat_range_ {
	uint64_t off, len;
};

struct cachestat_ {
	uint64_t cache, dirty, writeback, evicted, recently_evicted;
};

struct unchanged {
	struct unchanged_files *all; /* borrowed */
	int fd;
	uint64_t writes, size;
	char *map;
};

/* The writes to the device so far. False if that is not known: some are in flight. */
static bool unchanged_count_writes(int device, uint64_t *writes)
{
	uint64_t in_flight;
	char text[512];
	ssize_t n = pread(device, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return sscanf(text, "%*u %*u %*u %*u %" SCNu64 " %*u %*u %*u %" SCNu64, writes, &in_flight) == 2 &&
	       in_flight == 0;
}

static int unchanged_cachestat(int fd, uint64_t off, uint64_t len, struct cachestat_ *s)
{
	struct cachestat_range_ r = { off, len };

	return (int)syscall(SYS_CACHESTAT, fd, &r, s, 0);
}

/* The ranges of data are entered in the page table. Those that cannot be count as changed. */
static void unchanged_enter_pages(const struct unchanged *u)
{
	off_t data, end;

	for (off_t pos = 0; (data = lseek(u->fd, pos, SEEK_DATA)) >= 0 && (uint64_t)data < u->size; pos = end) {
		end = lseek(u->fd, data, SEEK_HOLE);
		if (end <= data)
			return;
		data &= ~(off_t)(PAGE - 1);
		end = (uint64_t)end < u->size ? end : (off_t)u->size;
		madvise(u->map + data, (size_t)(end - data), MADV_POPULATE_READ_);
	}
}

static bool unchanged_possible(const struct unchanged_files *all, int fd, uint64_t size)
{
	const uint64_t most = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / MEMORY_SHARE;
	struct cachestat_ s;

	return all->device >= 0 && sysconf(_SC_PAGESIZE) == PAGE && size >= UNCHANGED_MIN && all->n < FILES_MAX &&
	       size <= most && all->bytes <= most - size && unchanged_cachestat(fd, 0, PAGE, &s) == 0;
}

struct unchanged *unchanged_begin(struct unchanged_files *all, int fd, uint64_t size)
{
	struct unchanged *u;

	if (!unchanged_possible(all, fd, size))
		return NULL;
	u = xcalloc(1, sizeof(*u));
	*u = (struct unchanged){ .all = all, .size = size, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3) };
	u->map = u->fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_SHARED, u->fd, 0);
	if (u->map == MAP_FAILED || !unchanged_count_writes(all->device, &u->writes)) {
		if (u->map != MAP_FAILED)
			munmap(u->map, size);
		cleanup_closep(&u->fd);
		free(u);
		return NULL;
	}
	unchanged_enter_pages(u);
	all->bytes += size;
	all->n++;
	return u;
}

void unchanged_end(struct unchanged *u)
{
	if (!u)
		return;
	munmap(u->map, u->size);
	close(u->fd);
	u->all->bytes -= u->size;
	u->all->n--;
	free(u);
}

static int unchanged_mark_missing(const struct unchanged *u, size_t blocks, bool *changed)
{
	cleanup_close int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	cleanup_free uint64_t *entries = xmalloc(ENTRIES * sizeof(*entries));
	const uint64_t first = (uintptr_t)u->map / PAGE, pages = (uint64_t)blocks * (FILES_BLOCK / PAGE);
	ssize_t n;

	for (uint64_t at = 0; at < pages; at += (uint64_t)n / sizeof(*entries)) {
		uint64_t want = pages - at < ENTRIES ? pages - at : ENTRIES;

		n = fd < 0 ? -1 : pread(fd, entries, want * sizeof(*entries), (off_t)((first + at) * sizeof(*entries)));
		if (n < (ssize_t)sizeof(*entries))
			return -1;
		for (uint64_t i = 0; i < (uint64_t)n / sizeof(*entries); i++)
			changed[(at + i) / (FILES_BLOCK / PAGE)] |= !(entries[i] & ENTRY_PRESENT);
	}
	return 0;
}

/* Marks the blocks of [from, to) that have dirty pages. If half of the pages of a range are dirty, all its blocks count
 * as dirty. */
static int unchanged_mark_dirty(int fd, size_t from, size_t to, bool *changed)
{
	const uint64_t pages = (uint64_t)(to - from) * (FILES_BLOCK / PAGE);
	size_t middle = from + (to - from) / 2;
	struct cachestat_ s;

	if (unchanged_cachestat(fd, (uint64_t)from * FILES_BLOCK, pages * PAGE, &s))
		return -1;
	if (!s.dirty && !s.writeback)
		return 0;
	if (to - from == 1 || s.dirty + s.writeback >= pages / 2) {
		memset(changed + from, true, to - from);
		return 0;
	}
	return unchanged_mark_dirty(fd, from, middle, changed) || unchanged_mark_dirty(fd, middle, to, changed) ? -1 : 0;
}

int unchanged_stat(const struct unchanged *u, struct stat *st)
{
	return fstat(u->fd, st);
}

bool unchanged_find(const struct unchanged *u, uint64_t size, bool *changed)
{
	const size_t all = (size_t)((size + FILES_BLOCK - 1) / FILES_BLOCK);
	const size_t known = (size_t)((size < u->size ? size : u->size) / FILES_BLOCK); /* whole blocks then and now */
	uint64_t writes;

	memset(changed, false, known);
	memset(changed + known, true, all - known);
	return (!known || (unchanged_mark_missing(u, known, changed) == 0 &&
			   unchanged_mark_dirty(u->fd, 0, known, changed) == 0)) &&
	       unchanged_count_writes(u->all->device, &writes) && writes == u->writes;
}
