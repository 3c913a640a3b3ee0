/* What the files of this room share. Nobody else but the tests and the fuzzers of this room may include it. */
#ifndef FSCHED_IMAGE_IMAGE_INTERNAL_H
#define FSCHED_IMAGE_IMAGE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "image/image.h"
#include "image/threads.h"

#define MEM_BATCH_CHUNKS 16u   /* chunks that a thread takes at a time when it reads an image */
#define MEM_DIRECT_ALIGN 4096u /* alignment of offset, length and address for O_DIRECT; some devices need less */

/* ---- shuffle.c: mem_shuffle() in plain C, to compare the vector code with ---- */

void mem_shuffle_plain(unsigned size, const uint8_t *in, uint8_t *out, size_t len);
void mem_unshuffle_plain(unsigned size, const uint8_t *in, uint8_t *out, size_t len);

/* ---- file_io.c ----------------------------------------------------------- */

/* Reads a whole regular file of a memory image, at most 16 GiB; *buf is to be freed by the caller. -1 with err. */
int mem_read_file(int dirfd, const char *name, uint8_t **buf, size_t *len, struct err *err);

/* ---- format.c: the file "image" ------------------------------------------ */

/* The content of "image": all of an image but its descriptors. The arrays are owned. */
struct mem_layout {
	uint32_t epoch;
	struct mem_file *files;
	struct mem_chunk *chunks; /* ascending by file and offset, not overlapping */
	struct mem_space *spaces; /* ascending by id */
	struct mem_extent *extents;
	size_t n_files, n_chunks, n_spaces, n_extents;
};

void mem_layout_free(struct mem_layout *l);
/* The bytes of the file, to be freed by the caller; *len of them. Never NULL. */
uint8_t *mem_layout_render(const struct mem_layout *l, size_t *len);
/* Parses and checks everything: the bytes may come from an attacker. -1 with err.num EBADMSG (damaged) or ENOTSUP
 * (written by a later version); l is empty then. */
int mem_layout_parse(const uint8_t *buf, size_t len, struct mem_layout *l, struct err *err);

/* The checksum at the end of a rendered image. The file "hashes" contains it to say to which image it belongs. */
void mem_image_sum(const uint8_t *buf, size_t len, uint64_t sum[2]);
/* XXH3-128 of a buffer: low, high. */
void mem_sum128(const void *buf, size_t len, uint64_t sum[2]);

/* An array of n_extents + 1, to be freed: for each extent the number of data pages before it; the last is the number of
 * all data pages. */
uint64_t *mem_layout_page_bases(const struct mem_layout *l);

/* The space with this id, or NULL. */
const struct mem_space *mem_layout_space(const struct mem_layout *l, uint64_t id);
/* Index into l->extents: the first extent of the space that ends above addr; s->first + s->count if there is none. */
size_t mem_layout_seek(const struct mem_layout *l, const struct mem_space *s, uint64_t addr);
/* How many of the chunks with the numbers chunks[0 .. n - 1] lie one behind the other in one file: at least 1, and with
 * more than one at most max bytes in all. *end: the offset in the file at which the last of them ends. */
size_t mem_layout_run(const struct mem_layout *l, const uint32_t *chunks, size_t n, uint64_t max, uint64_t *end);

/* ---- hashes.c: the file "hashes" ----------------------------------------- */

struct mem_hash mem_hash_page(const void *page);
/* image_sum: mem_image_sum() of the image that the hashes belong to. n: its number of data pages. */
int mem_hashes_write(int dirfd, const struct mem_hash *v, uint64_t n, const uint64_t image_sum[2], struct err *err);
/* *v: n hashes, to be freed by the caller. -1 with EBADMSG if buf is damaged or belongs to another image. */
int mem_hashes_parse(const uint8_t *buf, size_t len, uint64_t n, const uint64_t image_sum[2], struct mem_hash **v,
		     struct err *err);

/* ---- image.c ------------------------------------------------------------- */

struct mem_image {
	int dirfd;
	struct mem_layout l;
	int *fds;                /* of the chunk files, in the order of l.files */
	uint64_t sum[2];         /* mem_image_sum() */
	struct mem_hash *hashes; /* of all data pages; NULL: not loaded */
	uint64_t *page_base;     /* mem_layout_page_bases(): where the hashes of an extent begin; NULL: not loaded */
};

/* A descriptor, owned by the caller, that reads a chunk file with O_DIRECT; file: index into l.files. -1 with errno if
 * the file system does not support it. */
int mem_image_open_direct(const struct mem_image *m, uint32_t file);

/* ---- window.c: a part of a chunk file, read with O_DIRECT ----------------- */

/* Verification reads every byte once. With O_DIRECT this neither evicts the job's files from the page cache, nor is
 * answered from the page cache when the question is what is on the disk. A zeroed struct is an empty window. A window
 * belongs to one thread and has to be freed. */
struct mem_window {
	uint8_t *buf;
	uint32_t file;
	uint64_t from, len; /* the bytes of the file that are in buf */
};

#define MEM_WINDOW (MEM_BATCH_CHUNKS * MEM_CHUNK)
/* Reads bytes [from, to) of a file, at most MEM_WINDOW, from fd, which is mem_image_open_direct()'s and may be -1.
 * False if that fails; the window is empty then, and the caller reads the bytes from the ordinary descriptor, which
 * reports the cause. */
bool mem_window_load(struct mem_window *w, int fd, uint32_t file, uint64_t from, uint64_t to);
/* The bytes, valid until the next load, or NULL if the window does not contain all of them. */
const uint8_t *mem_window_get(const struct mem_window *w, uint32_t file, uint64_t from, size_t len);
void mem_window_free(struct mem_window *w);

/* ---- chunk.c: reading one chunk ------------------------------------------ */

/* Belongs to one thread. */
struct mem_chunk_reader {
	struct mem_image *m; /* borrowed */
	struct mem_codec *codec;
	struct mem_window window; /* its owner may load it: what is in the window is not read again */
	uint8_t *room, *raw;      /* MEM_CHUNK bytes each */
	const uint8_t *stored;    /* the stored bytes of the last chunk: in room or in the window */
	uint32_t held;            /* the chunk whose pages are at pages; MEM_ZERO: none */
	const uint8_t *pages;
	uint64_t bytes_read;
};

void mem_chunk_reader_init(struct mem_chunk_reader *r, struct mem_image *m);
void mem_chunk_reader_free(struct mem_chunk_reader *r);
/* Sets r->stored to the stored bytes of the chunk after comparing their checksum. -1 with EBADMSG: damaged. */
int mem_chunk_read_stored(struct mem_chunk_reader *r, uint32_t chunk, struct err *err);
/* Sets r->pages to the decoded pages of the chunk after comparing both checksums. Does nothing if r->held is this
 * chunk. */
int mem_chunk_read(struct mem_chunk_reader *r, uint32_t chunk, struct err *err);

#endif
