/* Which pages of running processes have been written, as the kernel notices it: between the rounds of a checkpoint, or
 * from one checkpoint to the next. A write that is noticed costs the process a page fault.
 *
 *   mem_track_new
 *   mem_track_add     every process, or mem_track_adopt
 *   mem_track_scan    before each copy, the job running: since the look before, and from now on
 *   mem_track_scan_frozen    in the freeze
 *   mem_track_free    the job running: lets its memory go again; or mem_track_detach
 *
 * A page is clean only if the kernel says so of a mapping that was tracked all the time; new, moved or replaced memory
 * never is. What was being written behind the page tables during a look (direct I/O, process_vm_writev) has ended when
 * it returns, if that is asked for. Only anonymous private memory that can be read and written is looked at (struct
 * vma's plain). By one thread. */
#ifndef FSCHED_CAPTURE_TRACK_H
#define FSCHED_CAPTURE_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "image/ranges.h"

enum mem_tracking { MEM_TRACK_NONE, MEM_TRACK_PROTECT /* userfaultfd, WP_ASYNC */, MEM_TRACK_SOFT_DIRTY };
/* "wp-async", "soft-dirty", "none". */
const char *mem_tracking_name(enum mem_tracking t);
/* The best that this kernel has. */
enum mem_tracking mem_tracking_probe(void);

struct mem_track;

struct mem_track *mem_track_new(enum mem_tracking how);
/* id: under which its pages are listed; ascending from call to call. -1: it cannot be tracked, err says why; none of
 * its pages is ever clean then. */
int mem_track_add(struct mem_track *t, pid_t host, uint64_t id, struct err *err);
/* Processes that are tracked. */
size_t mem_track_count(const struct mem_track *t);
/* clean: pages that were not written since the look before; empty in the first. present: pages that are there. A
 * process that cannot be looked at is not tracked any longer: returns how many. copy: the pages are going to be copied
 * while the processes run; they are stopped for a moment (soft-dirty: in any case). */
size_t mem_track_scan(struct mem_track *t, bool copy, struct mem_ranges *clean, struct mem_ranges *present);
/* The same of stopped processes; protects nothing anew. */
void mem_track_scan_frozen(struct mem_track *t, struct mem_ranges *clean);
bool mem_track_has(const struct mem_track *t, uint64_t id);
/* For struct mem_source: pages of the running processes as of the last look, or later. Safe for several threads.
 * EFAULT: the pages or the process have gone since. */
int mem_track_read(void *track, uint64_t id, uint64_t addr, void *buf, size_t len);
void mem_track_free(struct mem_track *t);

/* ---- handed on from one process to another: MEM_TRACK_PROTECT only ---- */

struct mem_tracked {
	pid_t host;
	uint64_t id;
	int pidfd, uffd;
};

/* The n-th process; its descriptors are t's. */
void mem_track_get(const struct mem_track *t, size_t n, struct mem_tracked *out);
/* Instead of mem_track_add(): goes on with what another tracker looked at, with its descriptors, which are t's from now
 * on. -1: the process has ended or has called exec; they are closed. */
int mem_track_adopt(struct mem_track *t, const struct mem_tracked *from);
/* Lets go of one process, as mem_track_free() of all. */
void mem_track_remove(struct mem_track *t, uint64_t id);
/* Like mem_track_free(), but the memory stays protected as long as somebody has the descriptors. */
void mem_track_detach(struct mem_track *t);

#endif
