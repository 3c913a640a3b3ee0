/* Which pages of running processes have been written, as the kernel notices it. For the rounds of one checkpoint: between checkpoints
 * nothing is tracked, since a write that is noticed costs the job a page fault.
 *
 *   mem_track_new
 *   mem_track_add     every process
 *   mem_track_look    before each copy, the job running: since the look before, and from now on
 *   mem_track_last    in the freeze
 *   mem_track_free    the job running: lets its memory go again
 *
 * A page is clean only if the kernel says so of a mapping that was tracked all the time; new, moved or replaced memory never is. What was
 * being written behind the page tables during a look (direct I/O, process_vm_writev) has ended when it returns. Only anonymous private
 * memory that can be read and written is looked at (struct vma's plain). By one thread. */
#ifndef FSCHED_MEMORY_TRACK_H
#define FSCHED_MEMORY_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/err.h"
#include "memory/ranges.h"

enum mem_tracking { MEM_TRACK_NONE, MEM_TRACK_PROTECT /* userfaultfd, WP_ASYNC */, MEM_TRACK_SOFT_DIRTY };
/* "wp-async", "soft-dirty", "none". */
const char *mem_tracking_name(enum mem_tracking t);
/* The best that this kernel has. */
enum mem_tracking mem_tracking_probe(void);

struct mem_track;

struct mem_track *mem_track_new(enum mem_tracking how);
/* id: under which its pages are listed; ascending from call to call. -1: it cannot be tracked, err says why; none of its pages is ever
 * clean then. */
int mem_track_add(struct mem_track *t, pid_t host, uint64_t id, struct err *err);
/* Processes that are tracked. */
size_t mem_track_count(const struct mem_track *t);
/* clean: pages that were not written since the look before; empty in the first. present: pages that are there. A process that cannot be
 * looked at is not tracked any longer: returns how many. */
size_t mem_track_look(struct mem_track *t, struct mem_ranges *clean, struct mem_ranges *present);
/* The same of stopped processes; protects nothing anew. */
void mem_track_last(struct mem_track *t, struct mem_ranges *clean);
bool mem_track_has(const struct mem_track *t, uint64_t id);
/* For struct mem_source: pages of the running processes as of the last look, or later. Safe for several threads. EFAULT: the pages or the
 * process have gone since. */
int mem_track_read(void *track, uint64_t id, uint64_t addr, void *buf, size_t len);
void mem_track_free(struct mem_track *t);

#endif
