/* The memory image of an epoch: the directory epochs/N/memory/.
 *
 *   image            What lies where: chunk files, chunks, address spaces with their extents. It is complete: no other
 *                    image is needed to read it.
 *   chunks-EEEEEE-K  Chunks of up to 64 pages, written by epoch E. Those of older epochs are hard links.
 *   hashes           Optional: XXH3-128 of every data page, for the next increment.
 *
 * An address space is named by a number of the caller's choice: the pid of a process in the pod, or an id of
 * image/space_id.h. Pages have 4 KiB. A page that no extent covers is not part of the image.
 *
 * Checks: "image" and "hashes" end with an XXH3-128 of themselves, and the epoch's manifest has their SHA-256. Every
 * chunk has an XXH3-128 of its stored bytes, compared before they are decoded, and an XXH3-64 of its pages, compared
 * before they are handed out. The first finds damage by a disk; the second finds damage by a processor, by memory or by
 * another version of a compression library.
 *
 * Functions that only read an image are thread-safe. Those that return int return 0, or -1 with err. */
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
#define MEM_NAME_MAX    32 /* bytes of the name of a chunk file, with its NUL */

/* Pages of an address space. addr is a multiple of MEM_PAGE. */
struct mem_range {
	uint64_t id, addr, npages;
};

/* The address behind its last page. */
static inline uint64_t mem_range_end(const struct mem_range *r)
{
	return r->addr + r->npages * MEM_PAGE;
}

/* ---- what an image consists of ------------------------------------------- */

/* A chunk file. */
struct mem_file {
	uint32_t epoch, index; /* its name: mem_file_name() */
	uint64_t size;         /* bytes */
	bool own;              /* written together with this image: its chunks fill it without gaps */
};

struct mem_chunk {
	uint64_t offset; /* in the file */
	uint32_t file;   /* index into files */
	uint32_t stored; /* bytes in the file */
	uint16_t npages;
	struct mem_format format;
	uint64_t sum[2];  /* XXH3-128 of the stored bytes: low, high */
	uint64_t raw_sum; /* XXH3-64 of the pages; 0 for a raw chunk, whose stored bytes are its pages */
};

#define MEM_ZERO UINT32_MAX /* mem_extent.chunk: the pages are zero */

/* npages pages at addr, which are the pages first .. first + npages - 1 of a chunk. */
struct mem_extent {
	uint64_t addr;
	uint32_t npages;
	uint32_t chunk; /* index into chunks, or MEM_ZERO */
	uint16_t first; /* 0 if they are zero */
};

/* An address space: extents[first .. first + count - 1], ascending, not overlapping. */
struct mem_space {
	uint64_t id, first, count;
};

struct mem_image;

/* dirfd: the directory memory/, which is duplicated. Parses and checks "image", opens all chunk files and checks their
 * sizes. NULL with err.num ENOENT (no image), EBADMSG (damaged), ENOTSUP (written by a later version), or the errno of
 * a failed read. */
struct mem_image *mem_image_open(int dirfd, struct err *err);
/* No thread may use m any more. m may be NULL. */
void mem_image_close(struct mem_image *m);
static inline void mem_image_closep(struct mem_image **m)
{
	if (*m)
		mem_image_close(*m);
}
#define cleanup_mem_image __attribute__((cleanup(mem_image_closep)))

/* The arrays are owned by the image; *n is their length. */
uint32_t mem_image_epoch(const struct mem_image *m);
const struct mem_file *mem_image_files(const struct mem_image *m, size_t *n);
const struct mem_chunk *mem_image_chunks(const struct mem_image *m, size_t *n);
const struct mem_space *mem_image_spaces(const struct mem_image *m, size_t *n);
/* The extents of one space; NULL and *n = 0 if the image does not have the space. */
const struct mem_extent *mem_image_extents(const struct mem_image *m, uint64_t id, size_t *n);
/* "chunks-000003-0". Returns buf. */
char *mem_file_name(const struct mem_file *f, char buf[MEM_NAME_MAX]);
/* True for a name that mem_file_name() can return. */
bool mem_is_chunk_file(const char *name);

/* Sums over an image, in bytes but for the last. */
struct mem_totals {
	uint64_t pages; /* memory that the image describes. A stored page counts once, however many spaces have it */
	uint64_t zero;  /* of pages: zeros */
	uint64_t older_pages; /* of pages: stored in chunk files of older epochs */
	uint64_t own;         /* size of the chunk files of this epoch, those of its pre-dumps included */
	uint64_t older;       /* size of the chunk files of older epochs */
	uint64_t older_used;  /* of older: chunks that are still referred to */
	unsigned older_files;
};
void mem_image_totals(const struct mem_image *m, struct mem_totals *t);

/* ---- reading -------------------------------------------------------------- */

/* Receives pages. Several threads call it at once, for different pages. Both functions return 0, or -1 with errno,
 * which ends the work. */
struct mem_sink {
	int (*write)(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len);
	int (*zero)(void *arg, uint64_t id, uint64_t addr, uint64_t len); /* NULL: zero pages are skipped */
	void *arg;
};

struct mem_read_opts {
	int threads;                  /* < 1: as many as processors, at most 16 */
	const struct mem_range *only; /* only these pages, ascending by id and addr, not overlapping. NULL: all */
	size_t n_only;
	const atomic_bool *cancel; /* ends the work with ECANCELED when it becomes true; may be NULL */
};

struct mem_read_stats {
	uint64_t read;   /* bytes read from chunk files */
	uint64_t pages;  /* bytes handed out as data */
	uint64_t zero;   /* bytes handed out as zeros */
	uint64_t cpu_us; /* processor time of all threads */
};

/* Reads at most max bytes of chunk files into the page cache, in the order in which mem_image_read_pages() is going to
 * read them. Blocks until the disk has delivered them: the caller runs it in a process of its own. */
void mem_image_read_ahead(const struct mem_image *m, uint64_t max);

/* Hands every wanted page to the sink once. Each chunk is read and decoded once, however many extents and spaces refer
 * to it, and none of its pages is handed out before its checksums were found right. opts and stats may be NULL. err.num
 * is EBADMSG for a damaged chunk, else the errno of the failed call. */
int mem_image_read_pages(struct mem_image *m, const struct mem_sink *sink, const struct mem_read_opts *opts,
			 struct mem_read_stats *stats, struct err *err);

enum mem_verify {
	MEM_VERIFY_OWN,  /* the stored bytes of every chunk in files of this epoch; of other files only the size */
	MEM_VERIFY_ALL,  /* the stored bytes of every chunk */
	MEM_VERIFY_DEEP, /* also decodes every chunk and compares the checksum of its pages */
};
/* Compares checksums; err names the first damage. Reads from the disk where the file system allows it (O_DIRECT), and
 * asks the kernel to drop cached pages first: call it when the files have been synced. threads: < 1 as many as
 * processors, at most 16. */
int mem_image_verify(struct mem_image *m, enum mem_verify what, int threads, struct err *err);

/* ---- hashes of pages ------------------------------------------------------ */

/* XXH3-128 of a page; 0, 0: not known. */
struct mem_hash {
	uint64_t low, high;
};

/* Loads "hashes" and checks that it belongs to this image. Does nothing if it is loaded already. err.num is ENOENT if
 * there is none, EBADMSG if it is damaged. Not thread-safe. */
int mem_image_load_hashes(struct mem_image *m, struct err *err);

#endif
