/* Writes the image of an epoch: reads pages through a callback, drops zeros and what the image before has already,
 * stores the rest.
 *
 * Memory: about 2.5 MiB per thread, and some 40 bytes per extent (56 per page with hashes).
 */
#ifndef FSCHED_IMAGE_WRITER_H
#define FSCHED_IMAGE_WRITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "image/image.h"
#include "image/ranges.h"

/* Where pages come from: a process, a snapshot, a copy in memory. Called by several threads at once. Whole pages, at
 * most MEM_CHUNK bytes. 0, or -1 with errno. EFAULT: at least one page cannot be read; the call is repeated page by
 * page, and a page that fails alone becomes zeros and is counted, as criu does it. Anything else ends the work. */
struct mem_source {
	int (*read)(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len);
	void *arg;
};

enum mem_direct { MEM_DIRECT_PROBE, MEM_DIRECT_NEVER, MEM_DIRECT_ALWAYS };

struct mem_write_opts {
	int level;   /* MEM_LEVEL_* */
	int threads; /* < 1: as many as processors, at most 16; fewer for a few MiB. Each writes a chunk file of its
			own. */
	int nice;    /* added to the nice value of these threads: 0..19 */
	enum mem_direct direct; /* PROBE: try where there is much to write, ALWAYS: if the file system can */
	bool hashes;            /* write "hashes" */
	unsigned compact; /* per cent: pages in an older chunk file of which less than this is used are written again.
			     0: never */
	unsigned older_files;      /* at most so many older chunk files stay in use: pages in those with the least are
				      written again */
	const atomic_bool *cancel; /* NULL, or ends the work with ECANCELED when it becomes true */

	/* Increments. The image before may be of the same epoch (a round of a pre-dump): it must stay open and its
	 * directory must be on the same file system, or nothing is shared and all is written again. Its files may be
	 * removed afterwards. */
	struct mem_image *previous;    /* NULL: a full image */
	const struct mem_range *clean; /* pages that are as they were in previous; ascending by id and addr, not
					  overlapping */
	size_t n_clean;
	bool compare; /* compare the other pages with the hashes of previous, if it has them (mem_image_load_hashes) */

	/* Pages of the work that are not read because those of another space are the same, which are in the work, too.
	 * NULL: there are none. */
	const struct mem_sames *same;
};

/* Sensible values: LZ4, threads by processors, probe, compaction below 25 % and beyond 256 files (each is a descriptor
 * of a reader). */
void mem_write_opts_init(struct mem_write_opts *o);

struct mem_write_stats {                              /* bytes of memory unless said otherwise */
	uint64_t pages;                               /* all that the image describes, but for: */
	uint64_t same;                                /* those of another space */
	uint64_t scanned;                             /* read through the callback */
	uint64_t zero;                                /* of pages: zeros */
	uint64_t reused;                              /* of pages: refer to chunks of the image before */
	uint64_t rewritten;                           /* of pages: taken from older chunks by compaction */
	uint64_t unreadable;                          /* of zero: could not be read */
	uint64_t raw;                                 /* data written, before compression */
	uint64_t stored;                              /* and after it */
	uint64_t chunks[MEM_TRANSFORMS][MEM_METHODS]; /* how many were stored how */
	uint64_t cpu_us, wall_us, sync_us;            /* sync: the longest fsync of a thread */
	unsigned threads, linked_files;
	bool direct;
};

/* Writes memory/ of an epoch: dirfd, which has no image yet. work: pages to describe, in any order, not overlapping;
 * what is in clean and in previous is not read, nor what is in same. Everything is on the disk when it returns 0 (the
 * directory itself too). On failure the directory holds rubbish and must be removed. stats may be NULL. err.num:
 * ENOSPC, ECANCELED, EIO, ... */
int mem_image_write(int dirfd, uint32_t epoch, const struct mem_source *source, const struct mem_range *work,
		    size_t n_work, const struct mem_write_opts *opts, struct mem_write_stats *stats, struct err *err);

/* Whether writing around the page cache is faster in this directory: writes, times and removes a file of 8 MiB twice.
 */
bool mem_probe_direct(int dirfd);

#endif
