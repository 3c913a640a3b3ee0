#include "image/writer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"

#define WRITE     (1u << 20) /* bytes per write */
#define IN_FLIGHT (8u << 20) /* bytes in the page cache that may wait for the disk */

void chunk_file_init(struct chunk_file *f, const struct mem_file *name, bool direct)
{
	memset(f, 0, sizeof(*f));
	f->fd = -1;
	f->direct = direct;
	f->room = WRITE + MEM_CHUNK * 2;
	mem_file_name(name, f->name);
}

static int chunk_file_error(const struct chunk_file *f, struct err *err)
{
	return err_sys(err, errno, "cannot write memory/%s", f->name);
}

static int chunk_file_make(struct chunk_file *f, int dirfd, struct err *err)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;

	if (f->direct) {
		f->fd = openat(dirfd, f->name, flags | O_DIRECT, 0600);
		/* Linux creates the file before it finds that the file system does not support O_DIRECT. */
		if (f->fd < 0 && errno == EINVAL && (unlinkat(dirfd, f->name, 0) == 0 || errno == ENOENT))
			f->direct = false;
	}
	if (!f->direct)
		f->fd = openat(dirfd, f->name, flags, 0600);
	if (f->fd < 0)
		return chunk_file_error(f, err);
	f->buf = aligned_alloc(MEM_DIRECT_ALIGN, (f->room + MEM_DIRECT_ALIGN - 1) / MEM_DIRECT_ALIGN * MEM_DIRECT_ALIGN);
	if (!f->buf) {
		errno = ENOMEM;
		return chunk_file_error(f, err);
	}
	return 0;
}

/* Starts the writeback of the next n bytes and waits for those that are IN_FLIGHT behind. So few dirty pages
 * accumulate: the disk works from the beginning on, the fsync at the end is short, and the job's files stay in the page
 * cache. */
static int chunk_file_start_writeback(const struct chunk_file *f, size_t n)
{
	uint64_t behind;

	if (sync_file_range(f->fd, (off_t)f->written, (off_t)n, SYNC_FILE_RANGE_WRITE) < 0)
		return errno == ESPIPE || errno == ENOSYS || errno == EINVAL ? 0 : -1;
	if (f->written < IN_FLIGHT)
		return 0;
	behind = f->written - IN_FLIGHT;
	return sync_file_range(f->fd, (off_t)behind, (off_t)n,
			       SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

static int chunk_file_flush(struct chunk_file *f, size_t n, struct err *err)
{
	if (write_all(f->fd, f->buf, n) < 0)
		return chunk_file_error(f, err);
	if (!f->direct && chunk_file_start_writeback(f, n) < 0)
		return chunk_file_error(f, err);
	f->written += n;
	f->len -= n;
	memmove(f->buf, f->buf + n, f->len);
	return 0;
}

uint8_t *chunk_file_reserve(struct chunk_file *f, int dirfd, size_t n, struct err *err)
{
	if (f->fd < 0 && chunk_file_make(f, dirfd, err) < 0)
		return NULL;
	if (f->len >= WRITE && chunk_file_flush(f, f->len / MEM_DIRECT_ALIGN * MEM_DIRECT_ALIGN, err) < 0)
		return NULL;
	if (f->room - f->len < n) {
		err_set(err, EINVAL, "a chunk of %zu bytes is too long", n);
		return NULL;
	}
	return f->buf + f->len;
}

uint64_t chunk_file_append(struct chunk_file *f, size_t n)
{
	uint64_t at = f->written + f->len;

	f->len += n;
	return at;
}

int chunk_file_finish(struct chunk_file *f, struct err *err)
{
	if (f->fd < 0)
		return 0;
	if (f->len >= MEM_DIRECT_ALIGN && chunk_file_flush(f, f->len / MEM_DIRECT_ALIGN * MEM_DIRECT_ALIGN, err) < 0)
		return -1;
	if (f->direct && f->len > 0) {
		int flags = fcntl(f->fd, F_GETFL);

		/* The length of the rest is not aligned. */
		if (flags < 0 || fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) < 0)
			return chunk_file_error(f, err);
		f->direct = false;
	}
	if (f->len > 0 && chunk_file_flush(f, f->len, err) < 0)
		return -1;
	return fsync(f->fd) < 0 ? chunk_file_error(f, err) : 0;
}

void chunk_file_free(struct chunk_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	free(f->buf);
	f->buf = NULL;
}

/* ---- probe ------------------------------------------------------------- */

#define PROBE_NAME  ".probe"
#define PROBE_BYTES (8u << 20)

/* Microseconds to have PROBE_BYTES on the disk, or -1. */
static int64_t chunk_file_time_write(int dirfd, const uint8_t *buf, int flags)
{
	cleanup_close int fd = openat(dirfd, PROBE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | flags,
				      0600);
	int64_t start = now_us(), us = -1;

	if (fd >= 0 && write_all(fd, buf, PROBE_BYTES) == 0 && fsync(fd) == 0)
		us = now_us() - start;
	unlinkat(dirfd, PROBE_NAME, 0);
	return us;
}

bool mem_probe_direct_io(int dirfd)
{
	cleanup_free uint8_t *buf = aligned_alloc(MEM_DIRECT_ALIGN, PROBE_BYTES);
	int64_t cached, direct;

	if (!buf)
		return false;
	/* Random data, because a disk may compress or deduplicate. */
	for (uint64_t i = 0, x = 88172645463325252u; i < PROBE_BYTES / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(buf + i * 8, &x, 8);
	}
	direct = chunk_file_time_write(dirfd, buf, O_DIRECT);
	cached = direct < 0 ? 0 : chunk_file_time_write(dirfd, buf, 0);
	return direct >= 0 && (cached < 0 || direct < cached);
}
