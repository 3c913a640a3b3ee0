/* Copies of files that keep holes: into the epoch, and back. */
#include "files/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"

#define CHUNK      (256u << 10)
#define ZERO_BLOCK 4096u

uint64_t file_data_bytes(const struct stat *st)
{
	uint64_t data = (uint64_t)st->st_blocks * 512;

	return data < (uint64_t)st->st_size ? data : (uint64_t)st->st_size;
}

/* Finds the next range [*from, *to) of data at or after pos, within size. False if only a hole is left. */
static bool copy_next_data(int fd, uint64_t pos, uint64_t size, uint64_t *from, uint64_t *to)
{
	off_t data, hole;

	if (pos >= size)
		return false;
	data = lseek(fd, (off_t)pos, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return false;
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	/* A file system without support for holes, or NFS, which asks the server with the rights that the caller has
	 * now and not with those that the file was opened with: everything is data. */
	*from = data < 0 ? pos : (uint64_t)data;
	*to = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
	return *from < size;
}

static ssize_t copy_pread(int fd, void *buf, size_t len, uint64_t off)
{
	ssize_t n;

	do {
		n = pread(fd, buf, len, (off_t)off);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* ---- to the epoch ------------------------------------------------------------ */

static int copy_by_buffer(int in, int out, uint64_t from, uint64_t to, bool *to_out)
{
	cleanup_free char *buf = xmalloc(CHUNK);

	while (from < to) {
		size_t want = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
		ssize_t n = copy_pread(in, buf, want, from);

		if (n < 0)
			return -1;
		if (n == 0)
			return 0; /* the file has become shorter; the rest stays a hole */
		if (pwrite_all(out, buf, (size_t)n, from) < 0) {
			*to_out = true;
			return -1;
		}
		from += (uint64_t)n;
	}
	return 0;
}

static int copy_range(int in, int out, uint64_t from, uint64_t to, bool *to_out)
{
	while (from < to) {
		off_t a = (off_t)from, b = (off_t)from;
		ssize_t n = copy_file_range(in, &a, out, &b, (size_t)(to - from), 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* It fails between file systems and on old kernels, and may return 0 before the end of the file.
		 * Reading and writing then copies the rest or finds the real error. */
		if (n <= 0)
			return copy_by_buffer(in, out, from, to, to_out);
		from += (uint64_t)n;
	}
	return 0;
}

int copy_sparse(int in, int out, uint64_t size, uint64_t budget, bool *to_out)
{
	uint64_t pos = 0, from, to, copied = 0;

	*to_out = false;
	if (size > 0 && ioctl(out, FICLONE, in) == 0)
		goto set_size;
	while (copy_next_data(in, pos, size, &from, &to)) {
		copied += to - from;
		if (copied > budget) {
			errno = EFBIG;
			return -1;
		}
		if (copy_range(in, out, from, to, to_out) < 0)
			return -1;
		pos = to;
	}
set_size:
	if (ftruncate(out, (off_t)size) < 0) {
		*to_out = true;
		return -1;
	}
	return 0;
}

/* Bytes at the beginning of buf, whole blocks, that are all zeros, or of which each block is not. */
static size_t copy_run(const char *buf, size_t len, bool *zeros)
{
	size_t n = 0, block;
	bool same;

	for (; n < len; n += block) {
		block = len - n < ZERO_BLOCK ? len - n : ZERO_BLOCK;
		same = !buf[n] && !memcmp(buf + n, buf + n + 1, block - 1);
		if (!n)
			*zeros = same;
		else if (same != *zeros)
			break;
	}
	return n;
}

/* One buffer. left: bytes that may be written. */
static int copy_nonzero(int out, const char *buf, size_t len, uint64_t at, uint64_t *left, bool *to_out)
{
	bool zeros;
	size_t n;

	for (; len; buf += n, at += n, len -= n) {
		n = copy_run(buf, len, &zeros);
		if (zeros)
			continue;
		if (n > *left) {
			errno = EFBIG;
			return -1;
		}
		*left -= n;
		if (pwrite_all(out, buf, n, at) < 0) {
			*to_out = true;
			return -1;
		}
	}
	return 0;
}

int copy_positioned(int in, int out, uint64_t size, uint64_t budget, bool *to_out)
{
	cleanup_free char *buf = xmalloc(CHUNK);
	ssize_t n;

	*to_out = false;
	for (uint64_t at = 0; at < size; at += (uint64_t)n) {
		n = copy_pread(in, buf, size - at < CHUNK ? (size_t)(size - at) : CHUNK, at);
		if (n < 0 || copy_nonzero(out, buf, (size_t)n, at, &budget, to_out) < 0)
			return -1;
		if (n == 0)
			break; /* the file has become shorter */
	}
	*to_out = true;
	return ftruncate(out, (off_t)size);
}

int copy_block(int out, const char *buf, size_t len, uint64_t at)
{
	const bool zeros = !buf[0] && !memcmp(buf, buf + 1, len - 1);

	if (zeros && fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len) == 0)
		return 0;
	return pwrite_all(out, buf, len, at);
}

/* ---- back from the epoch ------------------------------------------------------ */

static int copy_back_zeros(int fd, uint64_t from, uint64_t to)
{
	static const char zeros[65536];

	while (from < to) {
		size_t n = to - from < sizeof(zeros) ? (size_t)(to - from) : sizeof(zeros);

		if (pwrite_all(fd, zeros, n, from) < 0)
			return -1;
		from += n;
	}
	return 0;
}

/* The copy has a hole here, so data of the target is removed, or overwritten with zeros. */
static int copy_back_hole(int target, uint64_t from, uint64_t to)
{
	uint64_t a, b;

	while (copy_next_data(target, from, to, &a, &b)) {
		if (fallocate(target, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)a, (off_t)(b - a)) < 0 &&
		    copy_back_zeros(target, a, b) < 0)
			return -1;
		from = b;
	}
	return 0;
}

static int copy_back_data(int copy, int target, uint64_t from, uint64_t to, bool readable)
{
	cleanup_free char *want = xmalloc(CHUNK), *have = xmalloc(CHUNK);

	while (from < to) {
		size_t len = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
		ssize_t n = copy_pread(copy, want, len, from);

		if (n <= 0) {
			errno = n ? errno : ENODATA;
			return -1;
		}
		if ((!readable || copy_pread(target, have, (size_t)n, from) != n || memcmp(want, have, (size_t)n) != 0) &&
		    pwrite_all(target, want, (size_t)n, from) < 0)
			return -1;
		from += (uint64_t)n;
	}
	return 0;
}

int copy_back(int copy, int target, uint64_t size, bool readable)
{
	uint64_t pos = 0, from, to;
	struct stat st;

	if (fstat(target, &st) < 0)
		return -1;
	if ((uint64_t)st.st_size != size && ftruncate(target, (off_t)size) < 0)
		return -1;
	while (copy_next_data(copy, pos, size, &from, &to)) {
		if (copy_back_hole(target, pos, from) < 0 || copy_back_data(copy, target, from, to, readable) < 0)
			return -1;
		pos = to;
	}
	return copy_back_hole(target, pos, size);
}
