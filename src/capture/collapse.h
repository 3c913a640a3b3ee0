/* Restores huge pages. The first write to a huge page after a fork, or while its writes are tracked, splits it, and the
 * kernel does not join it again soon. After a checkpoint, process_madvise(MADV_COLLAPSE) asks the kernel to do it
 * (Linux 6.1; on older kernels nothing happens).
 *
 *   mem_collapse_new, mem_collapse_note   before the freeze: note which mappings have huge pages
 *   mem_collapse_begin                    after the checkpoint, when no child holds the memory and nothing tracks it:
 *                                         starts a thread with nice value 19 that collapses in small steps
 *   mem_collapse_end                      waits for the thread */
#ifndef FSCHED_CAPTURE_COLLAPSE_H
#define FSCHED_CAPTURE_COLLAPSE_H

#include <stdint.h>
#include <sys/types.h>

struct mem_collapse;

/* Never NULL. */
struct mem_collapse *mem_collapse_new(void);
/* Notes the huge pages of a process. Ignores a process that has none or has ended. Walks the page tables of the
 * process: do not call it during a freeze. */
void mem_collapse_note(struct mem_collapse *h, pid_t pid);
/* Collapses only in mappings that have fewer huge pages than noted, and only where all 512 small pages of a huge page
 * are in memory and exclusive to the process: this needs no more memory than before. May be called once. */
void mem_collapse_begin(struct mem_collapse *h);
/* Waits, and frees h, which may be NULL. Returns the number of bytes that were collapsed. Processes that have ended
 * meanwhile are skipped. */
uint64_t mem_collapse_end(struct mem_collapse *h);

#endif
