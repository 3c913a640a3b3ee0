/* Chunk files read around the page cache: what is read once to be looked at shall neither push the job's files out of the cache nor
 * come from there when the question is what is on the disk. */
#ifndef FSCHED_MEMORY_WINDOW_H
#define FSCHED_MEMORY_WINDOW_H

#include <stddef.h>
#include <stdint.h>
#include "memory/image.h"

/* Descriptors of an image's chunk files with O_DIRECT; -1 where the file system has none, which is no error. To be ended. */
struct mem_uncached { int *fds; size_t n; };
void mem_uncached_open(struct mem_uncached *d, const struct mem_image *m);
void mem_uncached_close(struct mem_uncached *d);

/* Part of one file in memory, one thread's. Zeroed is empty; to be freed. */
struct mem_window {
	uint8_t *buf;
	uint32_t file;
	uint64_t from, len;       /* what of the file is in buf */
};
/* Reads bytes [from, to) of a file, MEM_WINDOW at most, if it can be read so. Otherwise, and if that fails, the window is empty: whoever wants
 * the bytes reads them in the ordinary way, and sees why that fails. */
#define MEM_WINDOW (16u * MEM_CHUNK)
void mem_window_load(struct mem_window *w, const struct mem_uncached *d, uint32_t file, uint64_t from, uint64_t to);
/* The bytes, or NULL if the window does not hold all of them. */
const uint8_t *mem_window_get(const struct mem_window *w, uint32_t file, uint64_t from, size_t len);
void mem_window_free(struct mem_window *w);

#endif
