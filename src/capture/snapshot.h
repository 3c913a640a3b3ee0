/* The memory of a stopped process tree, captured in the freeze and readable after the thaw.
 *
 *   mem_snapshot_new            before the freeze: allocates memory for copies
 *   mem_snapshot_take           in the freeze: copies or forks
 *   mem_snapshot_needs_freeze   true: one process was left in place, so everything must be written before the thaw
 *   mem_snapshot_source         for mem_image_write()
 *   mem_snapshot_free           kills the children
 *
 * One thread makes all calls, because it traces the children. */
#ifndef FSCHED_CAPTURE_SNAPSHOT_H
#define FSCHED_CAPTURE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "capture/cost.h"
#include "capture/split.h"
#include "image/ranges.h"
#include "image/writer.h"

struct mem_snapshot;

struct mem_process {
	struct mem_split split;
	struct mem_ranges take; /* the pages of split.ours to capture: all that is not known from before the freeze;
				   owned by the caller */
	bool shares;            /* it shares pages with other processes since a fork; reading must not copy these */
	enum mem_method wanted; /* chosen before the freeze */
	enum mem_method method; /* out: used in the freeze */
	bool fell_back;         /* out: method is not what was wanted, which is worth a warning */
	char why[256];          /* the reason for the choice; out: for falling back */
};

/* reserve: bytes for copies. If there is not enough memory, none is reserved. threads: that copy in the freeze, at most
 * 16. Never NULL. */
struct mem_snapshot *mem_snapshot_new(uint64_t reserve, int threads);
/* Captures the processes, which are borrowed until mem_snapshot_free(). tracer: see trace/tracer.h;
 * -1: no forks. cow_room: bytes by which the job's memory may grow after forks. A method that fails falls back to the
 * next simpler one. -1 with err only if memory cannot be read or allocated. */
int mem_snapshot_take(struct mem_snapshot *s, struct mem_process *procs, size_t n, int tracer, uint64_t cow_room,
		      struct err *err);
bool mem_snapshot_needs_freeze(const struct mem_snapshot *s);
/* Writes the kept pages of all processes into criu's images (capture/split.h). */
int mem_snapshot_write_kept(struct mem_snapshot *s, int images_fd, struct err *err);
/* Reads the captured pages; valid until mem_snapshot_free(). Thread-safe. */
struct mem_source mem_snapshot_source(struct mem_snapshot *s);
/* All pages of the image to be written: split.ours of all processes. Of these the source can read the pages in "take".
 * Owned by s. */
const struct mem_range *mem_snapshot_ranges(const struct mem_snapshot *s, size_t *n);
/* The number of pages in criu's list that could not be read and became zeros. */
uint64_t mem_snapshot_unreadable(const struct mem_snapshot *s);
/* s may be NULL. */
void mem_snapshot_free(struct mem_snapshot *s);

#endif
