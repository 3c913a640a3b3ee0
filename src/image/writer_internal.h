/* The stages of mem_image_write(), in the order in which writer.c runs them. What they share is struct writer.
 *
 *   plan          Sorts the work. A page that is clean and is in the previous image becomes a draft (an extent in the
 *                 making) that refers to the old chunk. All other pages become pieces: they have to be read.
 *   drain         The threads read the pieces. A zero page, or a page whose hash is that of the page at the same
 * address in the previous image, becomes a draft and is not stored. All other pages are collected into chunks, which
 * are encoded and appended to the thread's chunk file (chunk_file.c). keep_chunks   Decides which chunk files of the
 * previous image stay in use, and hard-links them into the new directory. Drafts that refer to other files become
 * pieces again (compaction). drain         A second time, for these pieces: their pages are read from the old chunks.
 *   finish_files  Stores the last, partly filled chunk of each thread and syncs the chunk files.
 *   finish_image  Sorts the drafts of all threads, adds those of fork-shared pages, numbers files and chunks, and
 * writes "image" and "hashes". */
#ifndef FSCHED_IMAGE_WRITER_INTERNAL_H
#define FSCHED_IMAGE_WRITER_INTERNAL_H

#include "image/image_internal.h"
#include "image/pace.h"
#include "image/writer.h"

#define NO_HASH UINT64_MAX

/* ---- drafts and pieces: what the stages hand on --------------------------- */

/* DRAFT_NEW: chunk is the number of a chunk of the thread that stored it. DRAFT_OLD: a chunk of the previous image. */
enum draft_kind { DRAFT_ZERO, DRAFT_NEW, DRAFT_OLD };

/* An extent of the image in the making. */
struct draft {
	uint64_t addr;
	uint64_t hash;  /* of its first page. DRAFT_NEW: index into the thread's hashes; DRAFT_OLD: into those of
			   previous */
	uint32_t space; /* index into writer.ids */
	uint32_t npages;
	uint32_t chunk;
	uint16_t first; /* page within the chunk */
	uint8_t kind, thread;
};

struct drafts {
	struct draft *v; /* owned */
	size_t n, room;
};
/* Appends one, or extends the last draft by it if it continues that one. */
void drafts_add(struct drafts *d, const struct draft *one);
/* Appends one. */
void drafts_push(struct drafts *d, const struct draft *one);

/* Pages to be stored: read through the callback, or from a chunk of the previous image. */
struct piece {
	uint64_t addr, npages;
	uint32_t space; /* index into writer.ids */
	uint32_t chunk; /* MEM_ZERO: through the callback */
	uint16_t first; /* page within the chunk */
};
struct pieces {
	struct piece *v; /* owned */
	size_t n, room;
};
void pieces_add(struct pieces *p, const struct piece *one);

/* ---- chunk_file.c: appends to a chunk file --------------------------------- */

/* Belongs to one thread. */
struct chunk_file {
	int fd; /* -1: not created yet */
	bool direct;
	uint8_t *buf; /* aligned; its first len bytes are not written yet */
	size_t len, room;
	uint64_t written; /* bytes in the file */
	char name[MEM_NAME_MAX];
};

/* direct: write with O_DIRECT if the file system supports it. The file is created with the first chunk. */
void chunk_file_init(struct chunk_file *f, const struct mem_file *name, bool direct);
/* Returns room for n more bytes, valid until the next call, or NULL with err. Creates the file if necessary. */
uint8_t *chunk_file_reserve(struct chunk_file *f, int dirfd, size_t n, struct err *err);
/* The first n of the reserved bytes are filled. Returns their offset in the file. */
uint64_t chunk_file_append(struct chunk_file *f, size_t n);
/* Writes what is left and syncs the file. */
int chunk_file_finish(struct chunk_file *f, struct err *err);
void chunk_file_free(struct chunk_file *f);

/* ---- the writer ------------------------------------------------------------ */

/* One thread. */
struct drain {
	struct chunk_file file;
	struct mem_codec *codec;
	struct pace_thread pace;
	struct mem_chunk_reader old; /* reads chunks of previous for compaction */
	uint8_t *pages;              /* MEM_CHUNK bytes: the chunk that is being filled */
	unsigned n_pages;            /* in it */
	struct mem_chunk *chunks;    /* stored so far; file is not set yet */
	size_t n_chunks, chunks_room;
	struct drafts drafts;
	struct mem_hash *hashes; /* of the stored pages */
	size_t n_hashes, hashes_room;
	struct mem_write_stats stats; /* the thread's part */
};

struct writer {
	int dirfd;
	uint32_t epoch, first_index; /* of the first thread's chunk file; the others follow */
	const struct mem_source *source;
	const struct mem_write_opts *o;
	struct mem_range *work; /* a sorted copy */
	size_t n_work;
	uint64_t *ids; /* of all spaces, ascending */
	size_t n_ids;
	struct mem_team team;
	struct drain *drains; /* one per thread */
	int threads;
	bool paced; /* MEM_LEVEL_AUTO, and there is enough to write */
	struct pace pace;
	bool compare; /* pages with the hashes of previous */

	pthread_mutex_t lock; /* protects the next three */
	struct pieces pieces;
	size_t next_piece;
	uint64_t next_page; /* of that piece */

	struct drafts planned; /* pages that are not read */
	bool *keep;            /* for each file of previous: whether it is linked; NULL without previous */
	unsigned linked;       /* number of linked files */
};

/* The stages. Each returns 0, or -1 with err. */
int writer_plan(struct writer *w, const struct mem_range *work, size_t n, struct err *err);
/* Stores w->pieces. May be called again with other pieces. */
int writer_drain(struct writer *w, struct err *err);
/* Replaces w->pieces by the pages that must be stored again. */
void writer_keep_chunks(struct writer *w);
int writer_finish_files(struct writer *w, struct err *err);
int writer_finish_image(struct writer *w, struct err *err);

#endif
