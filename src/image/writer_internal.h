/* Parts of the writer: plan.c -> drain.c (chunk_file.c) -> settle.c -> merge.c, driven by writer.c. */
#ifndef FSCHED_IMAGE_WRITER_INTERNAL_H
#define FSCHED_IMAGE_WRITER_INTERNAL_H

#include "image/image_internal.h"
#include "image/writer.h"

#define NO_HASH UINT64_MAX

/* An extent of the image to be. chunk: a number of the thread that wrote it (DRAFT_NEW), or of the previous image
 * (DRAFT_OLD). */
enum draft_kind { DRAFT_ZERO, DRAFT_NEW, DRAFT_OLD };
struct draft {
	uint64_t addr;
	uint64_t hash;  /* DRAFT_NEW: index into the thread's hashes; DRAFT_OLD: into previous's; NO_HASH */
	uint32_t space; /* index into writer.ids */
	uint32_t npages;
	uint32_t chunk;
	uint16_t first;
	uint8_t kind, thread;
};

struct drafts {
	struct draft *v;
	size_t n, room;
};
/* Adds one, or lengthens the last one by it. */
void drafts_add(struct drafts *d, const struct draft *one);
/* Adds one. */
void drafts_push(struct drafts *d, const struct draft *one);

/* Pages to be stored: read through the callback, or from a chunk of the previous image. */
struct piece {
	uint64_t addr, npages;
	uint32_t space;
	uint32_t chunk; /* MEM_ZERO: through the callback */
	uint16_t first;
};
struct pieces {
	struct piece *v;
	size_t n, room;
};
void pieces_add(struct pieces *p, const struct piece *one);

/* ---- chunk_file.c: appending to a chunk file ---------------------------- */

struct chunk_file {
	int fd; /* -1: not made yet */
	bool direct;
	uint8_t *buf; /* aligned; len bytes wait in it */
	size_t len, room;
	uint64_t written; /* bytes in the file */
	char name[MEM_NAME_MAX];
};

void chunk_file_init(struct chunk_file *f, const struct mem_file *name, bool direct);
/* Room for n more bytes at the returned place, which is valid until the next call; NULL with err. Makes the file. */
uint8_t *chunk_file_reserve(struct chunk_file *f, int dirfd, size_t n, struct err *err);
/* n of the reserved bytes are there. Returns the place in the file at which they are. */
uint64_t chunk_file_append(struct chunk_file *f, size_t n);
/* Writes the rest and waits until all is on the disk. */
int chunk_file_finish(struct chunk_file *f, struct err *err);
void chunk_file_free(struct chunk_file *f);

/* ---- the writer --------------------------------------------------------- */

struct drain { /* one thread */
	struct chunk_file file;
	struct mem_codec *codec;
	struct mem_chunk_reader old; /* for compaction */
	uint8_t *pages;              /* MEM_CHUNK, the chunk that is being filled */
	unsigned n_pages;
	struct mem_chunk *chunks; /* file is not set yet */
	size_t n_chunks, chunks_room;
	struct drafts drafts;
	struct mem_hash *hashes;
	uint64_t n_hashes, hashes_room;
	struct mem_write_stats stats; /* its part of it */
};

struct writer {
	int dirfd;
	uint32_t epoch, first_index; /* name of the first thread's chunk file */
	const struct mem_source *source;
	const struct mem_write_opts *o;
	struct mem_range *work; /* sorted copy */
	size_t n_work;
	uint64_t *ids; /* ascending */
	size_t n_ids;
	struct mem_team team;
	struct drain *drains;
	int threads;
	bool compare;

	pthread_mutex_t lock; /* of the next three */
	struct pieces pieces;
	size_t next_piece;
	uint64_t next_page;

	struct drafts planned; /* what needs no reading */
	bool *keep;            /* files of previous that are linked */
	unsigned linked;
};

/* plan.c: sorts and checks the work, finds what needs no reading. */
int writer_plan(struct writer *w, const struct mem_range *work, size_t n, struct err *err);
/* drain.c: stores w->pieces with all threads. May be called again with other pieces. */
int writer_drain(struct writer *w, struct err *err);
/* drain.c: the rest of the chunks, fsync. */
int writer_finish_files(struct writer *w, struct err *err);
/* settle.c: links the older files that are worth keeping; pages in the others become w->pieces. */
int writer_settle(struct writer *w, struct err *err);
/* merge.c: writes "image" and "hashes". */
int writer_merge(struct writer *w, struct err *err);

#endif
