/* Writes the memory image of an epoch: reads pages through a callback, drops zero pages and pages that the previous
 * image has already, and stores the rest.
 *
 * Memory: about 2.5 MiB per thread, and some 40 bytes per extent (with hashes 56 per page). */
#ifndef FSCHED_IMAGE_WRITER_H
#define FSCHED_IMAGE_WRITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "image/image.h"
#include "image/ranges.h"

/* Provides pages: of a process, of a snapshot, or of a copy in memory. Several threads call it at once, for whole
 * pages, at most MEM_CHUNK bytes. Returns 0, or -1 with errno. EFAULT means that at least one page cannot be read: the
 * writer then reads page by page, and a page that fails alone becomes zeros and is counted as unreadable, as criu does
 * it. Any other errno ends the work. */
struct mem_source {
	int (*read)(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len);
	void *arg;
};

/* Whether chunk files are written with O_DIRECT. */
enum mem_direct_io {
	MEM_DIRECT_IO_PROBE, /* if it is faster, which mem_probe_direct_io() tries where much is to be written */
	MEM_DIRECT_IO_NEVER,
	MEM_DIRECT_IO_ALWAYS /* if the file system supports it */
};

struct mem_write_opts {
	int level;   /* MEM_LEVEL_* */
	int threads; /* < 1: as many as processors, at most 16; fewer for a few MiB. Each writes one chunk file. */
	int nice;    /* added to the nice value of these threads: 0..19 */
	enum mem_direct_io direct_io;
	bool hashes; /* write "hashes" */
	/* Compaction: pages in older chunk files are stored again if less than compact per cent of the file is used (0:
	 * never), and if more than older_files older files would stay in use (those with the least use go first). */
	unsigned compact;
	unsigned older_files;
	const atomic_bool *cancel; /* ends the work with ECANCELED when it becomes true; may be NULL */

	/* ---- increments ---- */

	/* The image that this one continues; NULL: a full image. It may be of the same epoch (a round of a pre-dump).
	 * It must stay open during the call; its files may be removed afterwards. On another file system its chunk
	 * files cannot be linked, and all pages are stored again. */
	struct mem_image *previous;
	/* Pages that are unchanged since previous; ascending by id and addr, not overlapping. */
	const struct mem_range *clean;
	size_t n_clean;
	/* Compare the other pages with the hashes of previous, if these are loaded (mem_image_load_hashes()). */
	bool compare;

	/* Pages of the work that are not read because they are the same as those of another space, which are in the
	 * work, too. NULL: none. */
	const struct mem_fork_shared *fork_shared;
};

/* Default values: MEM_LEVEL_AUTO, threads by processors, probe of direct I/O, compaction below 25 % and beyond 256
 * older files (a reader needs a descriptor for each). */
void mem_write_opts_init(struct mem_write_opts *o);

/* Bytes of memory unless said otherwise. */
struct mem_write_stats {
	uint64_t pages;                                    /* all that the image describes, without fork_shared */
	uint64_t fork_shared;                              /* pages that refer to those of another space */
	uint64_t scanned;                                  /* read through the callback */
	uint64_t zero;                                     /* of pages: zeros */
	uint64_t reused;                                   /* of pages: refer to chunks of the previous image */
	uint64_t rewritten;                                /* of pages: copied from older chunks by compaction */
	uint64_t unreadable;                               /* of zero: could not be read */
	uint64_t raw;                                      /* stored data before compression */
	uint64_t stored;                                   /* and after it */
	uint64_t chunks[MEM_TRANSFORMS][MEM_COMPRESSIONS]; /* number of chunks by format */
	uint64_t cpu_us;                                   /* processor time of all threads */
	uint64_t wall_us;
	uint64_t sync_us; /* the longest fsync of a thread */
	unsigned threads, linked_files;
	bool direct_io; /* at least one chunk file was written with O_DIRECT */
};

/* Writes the files of memory/ of an epoch into dirfd, which must not contain an image. work: the pages to describe, in
 * any order, not overlapping. Pages that are in clean and in previous, and pages in fork_shared, are not read. When it
 * returns 0, everything is on the disk, the directory dirfd included. On failure the files in dirfd are incomplete and
 * must be removed. stats may be NULL. err.num: ENOSPC, ECANCELED, EIO, ... */
int mem_image_write(int dirfd, uint32_t epoch, const struct mem_source *source, const struct mem_range *work,
		    size_t n_work, const struct mem_write_opts *opts, struct mem_write_stats *stats, struct err *err);

/* Whether writes with O_DIRECT are faster in this directory. Writes, times and removes a file of 8 MiB twice. */
bool mem_probe_direct_io(int dirfd);

#endif
