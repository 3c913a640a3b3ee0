/* Tracks which pages running processes write, between the rounds of a checkpoint or from one checkpoint to the next.
 * The first write to a tracked page costs the process a page fault.
 *
 *   mem_track_new
 *   mem_track_add           for every process, or mem_track_adopt
 *   mem_track_scan          before each copy, while the job runs: what is clean since the last scan
 *   mem_track_scan_frozen   in the freeze
 *   mem_track_free          while the job runs: ends the tracking; or mem_track_detach
 *
 * A page is clean only if the kernel says so for a mapping that was tracked all the time. New, moved or replaced memory
 * is never clean. A write that bypasses the page tables (direct I/O, process_vm_writev) and is in progress during a
 * scan has ended when the scan returns, if the caller asks for that ("copy"). Only anonymous private memory that can be
 * read and written is tracked ("plain" in struct vma). One thread makes all calls, but for mem_track_read(). */
#ifndef FSCHED_CAPTURE_TRACK_H
#define FSCHED_CAPTURE_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "image/ranges.h"

enum mem_tracking {
	MEM_TRACK_NONE,
	MEM_TRACK_PROTECT, /* userfaultfd with UFFD_FEATURE_WP_ASYNC (Linux 6.7) */
	MEM_TRACK_SOFT_DIRTY
};
/* "wp-async", "soft-dirty", "none". */
const char *mem_tracking_name(enum mem_tracking t);
/* The best that this kernel supports. */
enum mem_tracking mem_tracking_probe(void);

struct mem_track;

/* Never NULL. */
struct mem_track *mem_track_new(enum mem_tracking how);
/* id: under which its pages are listed; ascending from call to call. -1 with err if the process cannot be tracked: none
 * of its pages is ever clean then. */
int mem_track_add(struct mem_track *t, pid_t host, uint64_t id, struct err *err);
/* The number of tracked processes. */
size_t mem_track_count(const struct mem_track *t);
/* Appends to clean the pages that were not written since the last scan (none in the first scan), and to present all
 * pages that exist. From now on, writes count for the next scan. copy: the caller is going to copy the pages while the
 * processes run, so writes in progress must end first; for this the processes are stopped for a moment (with soft-dirty
 * they always are). A process that cannot be scanned is tracked no longer; returns the number of these. */
size_t mem_track_scan(struct mem_track *t, bool copy, struct mem_ranges *clean, struct mem_ranges *present);
/* The same for stopped processes. Does not protect pages again, and keeps every process. */
void mem_track_scan_frozen(struct mem_track *t, struct mem_ranges *clean);
bool mem_track_has(const struct mem_track *t, uint64_t id);
/* As mem_source.read: pages of the running processes as of the last scan, or later. track: a struct mem_track.
 * Thread-safe. EFAULT: the pages or the process have gone since. */
int mem_track_read(void *track, uint64_t id, uint64_t addr, void *buf, size_t len);
/* Removes the write protection of all processes and frees t, which may be NULL. */
void mem_track_free(struct mem_track *t);

/* ---- handing over to another process: MEM_TRACK_PROTECT only --------------- */

struct mem_tracked {
	pid_t host;
	uint64_t id;
	int pidfd, uffd;
};

/* The n-th process; its descriptors are borrowed from t. */
void mem_track_get(const struct mem_track *t, size_t n, struct mem_tracked *out);
/* Instead of mem_track_add(): continues with a process that another tracker has scanned. t owns its descriptors
 * afterwards. -1 with ESRCH: the process has ended or has called exec; the descriptors are closed. */
int mem_track_adopt(struct mem_track *t, const struct mem_tracked *from);
/* Ends the tracking of one process, as mem_track_free() does for all. */
void mem_track_remove(struct mem_track *t, uint64_t id);
/* Like mem_track_free(), but the memory stays write-protected as long as another process has copies of the
 * descriptors. */
void mem_track_detach(struct mem_track *t);

#endif
