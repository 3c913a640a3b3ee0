/* The file "hashes": an XXH3-128 of every data page, in the order of the extents. An increment uses it if the kernel
 * cannot tell which pages were written. A page is compared with the page at the same address only: with 128 bits, a
 * site that compares 10^16 pages misses a change with a probability of 10^-22; with 64 bits it would be 10^-3. The hash
 * is not cryptographic: a job could make colliding pages on purpose, and would damage no memory but its own.
 *
 *   record  bytes  content
 *   header  32     magic "FSCHEDMH", u32 version, u32 0, u64 pages, u64 0
 *   sum     16     the checksum at the end of the "image" to which the hashes belong
 *   hash    16     of a page: u64 low, u64 high
 *   sum     16     XXH3-128 of all bytes before
 */
#include "image/image_internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"
#include "base/xxh3.h"

#define MAGIC   "FSCHEDMH"
#define VERSION 1u
#define HEADER  32u
#define HASH    16u

struct mem_hash mem_hash_page(const void *page)
{
	XXH128_hash_t h = XXH3_128bits(page, MEM_PAGE);

	return (struct mem_hash){ .low = h.low64, .high = h.high64 };
}

static void put_sum(uint8_t *p, uint64_t low, uint64_t high)
{
	low = htole64(low);
	high = htole64(high);
	memcpy(p, &low, 8);
	memcpy(p + 8, &high, 8);
}

static void get_sum(const uint8_t *p, uint64_t *low, uint64_t *high)
{
	memcpy(low, p, 8);
	memcpy(high, p + 8, 8);
	*low = le64toh(*low);
	*high = le64toh(*high);
}

int mem_hashes_write(int dirfd, const struct mem_hash *v, uint64_t n, const uint64_t image_sum[2], struct err *err)
{
	size_t len = HEADER + HASH + n * HASH + HASH;
	cleanup_free uint8_t *buf = xcalloc(1, len);
	cleanup_close int fd = openat(dirfd, MEM_HASH_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	uint32_t version = htole32(VERSION);
	uint64_t pages = htole64(n), sum[2];

	memcpy(buf, MAGIC, 8);
	memcpy(buf + 8, &version, 4);
	memcpy(buf + 16, &pages, 8);
	put_sum(buf + HEADER, image_sum[0], image_sum[1]);
	for (uint64_t i = 0; i < n; i++)
		put_sum(buf + HEADER + HASH + i * HASH, v[i].low, v[i].high);
	mem_sum128(buf, len - HASH, sum);
	put_sum(buf + len - HASH, sum[0], sum[1]);
	if (fd < 0 || write_all(fd, buf, len) < 0 || fsync(fd) < 0)
		return err_sys(err, errno, "cannot write memory/" MEM_HASH_FILE);
	return 0;
}

static bool header_fits(const uint8_t *buf, size_t len, uint64_t n)
{
	uint32_t version, zero;
	uint64_t pages, zero2;

	if (len < HEADER + 2 * HASH || memcmp(buf, MAGIC, 8) != 0)
		return false;
	memcpy(&version, buf + 8, 4);
	memcpy(&zero, buf + 12, 4);
	memcpy(&pages, buf + 16, 8);
	memcpy(&zero2, buf + 24, 8);
	return le32toh(version) == VERSION && zero == 0 && zero2 == 0 && le64toh(pages) == n &&
	       (len - HEADER - 2 * HASH) % HASH == 0 && (len - HEADER - 2 * HASH) / HASH == n;
}

int mem_hashes_parse(const uint8_t *buf, size_t len, uint64_t n, const uint64_t image_sum[2], struct mem_hash **v,
		     struct err *err)
{
	uint64_t sum[2], low, high;

	if (!header_fits(buf, len, n))
		return err_set(err, EBADMSG, "the hashes of the memory image are damaged");
	mem_sum128(buf, len - HASH, sum);
	get_sum(buf + len - HASH, &low, &high);
	if (low != sum[0] || high != sum[1])
		return err_set(err, EBADMSG, "the hashes of the memory image are damaged: their checksum differs");
	get_sum(buf + HEADER, &low, &high);
	if (low != image_sum[0] || high != image_sum[1])
		return err_set(err, EBADMSG, "the hashes of the memory image belong to another image");
	*v = xmalloc((n + 1) * sizeof(**v));
	for (uint64_t i = 0; i < n; i++)
		get_sum(buf + HEADER + HASH + i * HASH, &(*v)[i].low, &(*v)[i].high);
	return 0;
}
