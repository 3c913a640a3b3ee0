/* The memory of an epoch: epochs/N/memory/.
 *
 *   image              what lies where: files, chunks, address spaces with their extents. Complete: no other image is
 * needed to read it. chunks-EEEEEE-K    stored chunks (up to 64 pages each), written by epoch E. Those of older epochs
 * are hard links. hashes             optional: XXH3-128 of every data page, for the next increment
 *
 * An address space is named by a number of the caller's choice (a pid in the pod, or whatever names shared memory).
 * Pages are 4 KiB. A page that no extent covers is not part of the image.
 *
 * What is checked: "image" and "hashes" end with an XXH3-128 of themselves, and the epoch's manifest has their SHA-256.
 * Every chunk has an XXH3-128 of its stored bytes, compared before they are decoded, and an XXH3-64 of its pages,
 * compared before they are handed out: the first finds what a disk did, the second what a processor, memory or another
 * version of a library did.
 *
 * Reading is thread-safe but for open and close.
 */
#ifndef FSCHED_IMAGE_IMAGE_H
#define FSCHED_IMAGE_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "image/codec.h"

#define MEM_PAGE        4096u
#define MEM_CHUNK_PAGES 64u                          /* of the largest chunk */
#define MEM_CHUNK       (MEM_CHUNK_PAGES * MEM_PAGE) /* bytes of it, before compression */
#define MEM_IMAGE_FILE  "image"
#define MEM_HASH_FILE   "hashes"
#define MEM_NAME_MAX    32 /* room for the name of a chunk file */

/* Pages of an address space. addr is a multiple of MEM_PAGE. */
struct mem_range {
	uint64_t id, addr, npages;
};

/* ---- what an image consists of ------------------------------------------ */

struct mem_file {
	uint32_t epoch, index; /* its name; mem_file_name() */
	uint64_t size;
	bool own; /* written together with this image: its chunks, and nothing else, fill it */
};

struct mem_chunk {
	uint64_t offset;
	uint32_t file;   /* index into files */
	uint32_t stored; /* bytes in the file */
	uint16_t npages;
	struct mem_format format;
	uint64_t sum[2];  /* XXH3-128 of the stored bytes: low, high */
	uint64_t raw_sum; /* XXH3-64 of the pages; 0 if they are stored as they are */
};

#define MEM_ZERO UINT32_MAX /* mem_extent.chunk: pages of zeros */

struct mem_extent { /* npages * MEM_PAGE bytes at addr */
	uint64_t addr;
	uint32_t npages;
	uint32_t chunk; /* index into chunks, or MEM_ZERO */
	uint16_t first; /* page within the chunk */
};

struct mem_space {
	uint64_t id, first, count;
}; /* extents[first .. first + count - 1], ascending, not overlapping */

struct mem_image;

/* dirfd: the memory/ directory; it is duplicated. Parses and checks "image", and that all chunk files are there and
 * have their size. err.num: ENOENT no image, EBADMSG damaged, ENOTSUP written by a later version, or why it could not
 * be read. */
struct mem_image *mem_image_open(int dirfd, struct err *err);
void mem_image_close(struct mem_image *m);
static inline void mem_image_closep(struct mem_image **m)
{
	if (*m)
		mem_image_close(*m);
}
#define cleanup_mem_image __attribute__((cleanup(mem_image_closep)))

/* Borrowed from the image. */
uint32_t mem_image_epoch(const struct mem_image *m);
const struct mem_file *mem_image_files(const struct mem_image *m, size_t *n);
const struct mem_chunk *mem_image_chunks(const struct mem_image *m, size_t *n);
const struct mem_space *mem_image_spaces(const struct mem_image *m, size_t *n);
/* Extents of one space; NULL and 0 if it has none. */
const struct mem_extent *mem_image_extents(const struct mem_image *m, uint64_t id, size_t *n);
char *mem_file_name(const struct mem_file *f, char buf[MEM_NAME_MAX]);
/* True for "chunks-000003-0". */
bool mem_is_chunk_file(const char *name);

/* What the image is made of, in bytes. */
struct mem_totals {
	uint64_t pages, zero; /* memory described: all of it, the zeros in it; what is stored counts once, whatever
				 number of spaces has it */
	uint64_t older_pages; /* of pages: stored by older epochs */
	uint64_t own, older;  /* chunk files: of this epoch (a pre-dump's too), of older ones */
	uint64_t older_used;  /* of older: what is still referred to */
	unsigned older_files;
};
void mem_image_totals(const struct mem_image *m, struct mem_totals *t);

/* ---- reading ------------------------------------------------------------ */

/* Where pages go. Called by several threads at once, for different pages. Both return 0, or -1 with errno, which ends
 * the work. */
struct mem_sink {
	int (*write)(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len);
	int (*zero)(void *arg, uint64_t id, uint64_t addr, uint64_t len); /* NULL: not wanted, new memory is zero */
	void *arg;
};

struct mem_read_opts {
	int threads;                  /* < 1: as many as processors, at most 16 */
	const struct mem_range *only; /* only these pages; ascending by id and addr. NULL: all */
	size_t n_only;
	const atomic_bool *cancel; /* NULL, or ends the work with ECANCELED when it becomes true */
};

struct mem_read_stats {
	uint64_t read, pages, zero, cpu_us;
}; /* bytes from files, bytes handed out as data and as zeros */

/* Asks the kernel for at most max bytes of what mem_image_fill() is going to read, in its order. Blocks for as long as
 * the disk is busy with it: for a process of its own. */
void mem_image_read_ahead(const struct mem_image *m, uint64_t max);

/* Hands out every page once. Each chunk is read and decoded once, whatever number of extents and spaces refer to it,
 * and nothing of it is handed out before its checksums were found right. opts and stats may be NULL. err.num as of the
 * cause; EBADMSG: damaged. */
int mem_image_fill(struct mem_image *m, const struct mem_sink *sink, const struct mem_read_opts *opts,
		   struct mem_read_stats *stats, struct err *err);

/* Pages [addr, addr + len) of one space into buf; ENODATA if the image does not hold all of them. For a few pages:
 * decodes the chunks anew. */
int mem_image_read(struct mem_image *m, uint64_t id, uint64_t addr, void *buf, size_t len, struct err *err);

enum mem_verify {
	MEM_VERIFY_OWN,  /* every chunk that this epoch has written, from the disk as far as possible; size of the other
			    files */
	MEM_VERIFY_ALL,  /* every byte of every chunk that is referred to */
	MEM_VERIFY_DEEP, /* and decoded */
};
/* The first damage is named. Asks the kernel to forget cached pages first: call when the files are on the disk. */
int mem_image_verify(struct mem_image *m, enum mem_verify what, int threads, struct err *err);

/* ---- hashes of pages ---------------------------------------------------- */

struct mem_hash {
	uint64_t low, high;
}; /* 0, 0: not known */

/* Loads "hashes" and checks that they belong to this image; ENOENT: there are none. */
int mem_image_load_hashes(struct mem_image *m, struct err *err);

#endif
