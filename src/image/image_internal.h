/* Parts of src/memory; nobody else but its tests includes it. */
#ifndef FSCHED_IMAGE_IMAGE_INTERNAL_H
#define FSCHED_IMAGE_IMAGE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "image/image.h"

/* ---- shuffle.c: the same as mem_shuffle() in plain C -------------------- */

void mem_shuffle_plain(unsigned size, const uint8_t *in, uint8_t *out, size_t len);
void mem_unshuffle_plain(unsigned size, const uint8_t *in, uint8_t *out, size_t len);

#define MEM_TURN 16u /* chunks that a thread takes at a time when it reads */

/* ---- threads.c ---------------------------------------------------------- */

/* What the threads of one piece of work share: the first failure ends all. */
struct mem_team {
	pthread_mutex_t lock; /* of why */
	atomic_bool failed;
	struct err why;
	const atomic_bool *cancel; /* or NULL */
	atomic_uint_fast64_t cpu_us;
};

void mem_team_init(struct mem_team *t, const atomic_bool *cancel);
/* Keeps the first failure. Returns -1. */
int mem_team_fail(struct mem_team *t, const struct err *why);
/* True when the work should go on. Reports a cancellation as a failure. */
bool mem_team_goes_on(struct mem_team *t);
/* Calls work(arg, 0) .. work(arg, n - 1), each in a thread of its own with the nice value raised by nice (the first in
 * the caller's thread if nice is 0). work's -1 with err is the failure of the team. 0 or -1 with the first failure. */
int mem_team_run(struct mem_team *t, int n, int nice, int (*work)(void *arg, int i, struct err *err), void *arg,
		 struct err *err);
/* wanted, or a default if it is < 1; at most 64. */
int mem_threads(int wanted);

/* ---- format.c: the file "image" ----------------------------------------- */

/* Everything of an image but its descriptors. Owned arrays. */
struct mem_layout {
	uint32_t epoch;
	struct mem_file *files;
	struct mem_chunk *chunks; /* ascending by file and offset, not overlapping */
	struct mem_space *spaces; /* ascending by id */
	struct mem_extent *extents;
	size_t n_files, n_chunks, n_spaces, n_extents;
};

void mem_layout_free(struct mem_layout *l);
/* The file's bytes, to be freed by the caller. */
uint8_t *mem_layout_render(const struct mem_layout *l, size_t *len);
/* Takes nothing on trust; EBADMSG, or ENOTSUP for a later version. */
int mem_layout_parse(const uint8_t *buf, size_t len, struct mem_layout *l, struct err *err);

/* The checksum at the end of a rendered image, by which "hashes" names it. */
void mem_image_sum(const uint8_t *buf, size_t len, uint64_t sum[2]);
/* XXH3-128 of a buffer: low, high. */
void mem_sum128(const void *buf, size_t len, uint64_t sum[2]);

/* Data pages before each extent, and of all of them: page_base[n_extents]. */
uint64_t *mem_layout_page_bases(const struct mem_layout *l);

/* ---- hashes.c ----------------------------------------------------------- */

struct mem_hash mem_hash_page(const void *page);
/* image_sum: the checksum at the end of "image", to which they belong. */
int mem_hashes_write(int dirfd, const struct mem_hash *v, uint64_t n, const uint64_t image_sum[2], struct err *err);
int mem_hashes_parse(const uint8_t *buf, size_t len, uint64_t n, const uint64_t image_sum[2], struct mem_hash **v,
		     struct err *err);

/* ---- image.c ------------------------------------------------------------ */

struct mem_image {
	int dirfd;
	struct mem_layout l;
	int *fds;                /* one per file */
	uint64_t sum[2];         /* at the end of "image" */
	struct mem_hash *hashes; /* NULL: not loaded */
	uint64_t *page_base;     /* with hashes: index of an extent's first page */
};

/* A descriptor of a chunk file, the caller's, that reads around the page cache; -1 with errno if its file system has
 * none. */
int mem_image_open_direct(const struct mem_image *m, uint32_t file);

/* The space, or NULL. */
const struct mem_space *mem_layout_space(const struct mem_layout *l, uint64_t id);
/* The first of the space's extents that ends above addr; may be behind the last. */
size_t mem_layout_seek(const struct mem_layout *l, const struct mem_space *s, uint64_t addr);

/* How many of chunks[0 .. n - 1], numbers of chunks, lie one behind the other in one file; at least 1, at most max
 * bytes from the second on. *end: where the last one ends. */
size_t mem_layout_run(const struct mem_layout *l, const uint32_t *chunks, size_t n, uint64_t max, uint64_t *end);

#define MEM_DIRECT_ALIGN 4096u /* what O_DIRECT asks of offsets, lengths and addresses; some devices ask for less */

/* Reads len bytes at off. 0, or -1 with errno (ENODATA: the file ends before). */
int mem_pread(int fd, void *buf, size_t len, uint64_t off);

/* ---- window.c: a part of a chunk file read around the page cache ---------- */

/* What is read once to be looked at shall neither push the job's files out of the cache, nor come from there when the
 * question is what is on the disk. Zeroed is empty; one thread's; to be freed. */
struct mem_window {
	uint8_t *buf;
	uint32_t file;
	uint64_t from, len; /* what of the file is in buf */
};

#define MEM_WINDOW (MEM_TURN * MEM_CHUNK)
/* Reads bytes [from, to) of a file, MEM_WINDOW at most, by fd, which is mem_image_open_direct()'s or -1. False if that
 * cannot be: the window is empty then, and whoever wants the bytes reads them in the ordinary way and sees why that
 * fails. */
bool mem_window_load(struct mem_window *w, int fd, uint32_t file, uint64_t from, uint64_t to);
/* The bytes, or NULL if the window does not hold all of them. */
const uint8_t *mem_window_get(const struct mem_window *w, uint32_t file, uint64_t from, size_t len);
void mem_window_free(struct mem_window *w);

/* ---- chunk.c: reading one chunk ----------------------------------------- */

struct mem_chunk_reader {
	struct mem_image *m;
	struct mem_codec *codec;
	struct mem_window window; /* its owner may load it: what is in there is not read again */
	uint8_t *room, *raw;      /* MEM_CHUNK each */
	const uint8_t *stored;    /* the bytes of the last chunk: in room or in the window */
	uint32_t held;            /* the chunk whose pages are at pages; MEM_ZERO: none */
	const uint8_t *pages;
	uint64_t bytes_read;
};

void mem_chunk_reader_init(struct mem_chunk_reader *r, struct mem_image *m);
void mem_chunk_reader_free(struct mem_chunk_reader *r);
/* Reads the stored bytes, r->stored, and compares their checksum. */
int mem_chunk_read_stored(struct mem_chunk_reader *r, uint32_t chunk, struct err *err);
/* Reads and decodes unless it is held already: r->pages. */
int mem_chunk_read(struct mem_chunk_reader *r, uint32_t chunk, struct err *err);

#endif
