/* The memory of a stopped tree, taken in the freeze and readable after it.
 *
 *   mem_snapshot_new       before the freeze: makes and touches the memory for copies
 *   mem_snapshot_take      in the freeze
 *   (mem_snapshot_needs_freeze)     true: one process had to be left where it is, so everything must be written before
 * the thaw mem_snapshot_source    for mem_image_write() mem_snapshot_free      kills the children
 *
 * All by one thread: children are traced by it. */
#ifndef FSCHED_CAPTURE_SNAPSHOT_H
#define FSCHED_CAPTURE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "capture/cost.h"
#include "image/ranges.h"
#include "capture/split.h"
#include "image/writer.h"

struct mem_snapshot;

struct mem_process {
	struct mem_split split;
	struct mem_ranges take; /* of split.ours: what is not known from before the freeze; owned by the caller */
	bool shares; /* it has pages in common with others, since a fork: these must not become copies by being read */
	enum mem_method wanted; /* before the freeze */
	enum mem_method method; /* out: how it was taken */
	bool fell_back;         /* out: not as wanted */
	char why[256];          /* why so */
};

/* reserve: bytes for copies; less may be got, 0 is possible. threads: that copy in the freeze. Never NULL. */
struct mem_snapshot *mem_snapshot_new(uint64_t reserve, int threads);
/* procs: borrowed until mem_snapshot_free(). hand: to criu, -1 = no forks. A rung that fails drops to the next one; -1
 * only if memory cannot be read at all. cow_room: by how much the job may grow. */
int mem_snapshot_take(struct mem_snapshot *s, struct mem_process *procs, size_t n, int hand, uint64_t cow_room,
		      struct err *err);
bool mem_snapshot_needs_freeze(const struct mem_snapshot *s);
/* Writes what criu's images keep, of all processes. */
int mem_snapshot_write_kept(struct mem_snapshot *s, int images_fd, struct err *err);
struct mem_source mem_snapshot_source(struct mem_snapshot *s);
/* All that is to become the image, split.ours of all; of that the source has what was to be taken. Owned by the
 * snapshot. */
const struct mem_range *mem_snapshot_ranges(const struct mem_snapshot *s, size_t *n);
/* Pages that were in criu's list and could not be read: zeros. */
uint64_t mem_snapshot_unreadable(const struct mem_snapshot *s);
void mem_snapshot_free(struct mem_snapshot *s);

#endif
