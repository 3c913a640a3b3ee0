/* Huge pages that come back. The first write to a huge page after a fork, or while writes to it are tracked, splits it,
 * and it stays split. Afterwards the kernel is asked from outside to put the pieces together
 * (process_madvise(MADV_COLLAPSE), Linux >= 6.1; nothing happens where it cannot).
 *
 *   mem_collapse_new, mem_collapse_note   before: which mappings have huge pages
 *   mem_collapse_begin                when nothing holds or tracks the memory any more: in a thread of the lowest
 * priority, in small steps mem_collapse_end                  waits for it */
#ifndef FSCHED_CAPTURE_COLLAPSE_H
#define FSCHED_CAPTURE_COLLAPSE_H

#include <stdint.h>
#include <sys/types.h>

struct mem_collapse;

/* Never NULL. */
struct mem_collapse *mem_collapse_new(void);
/* Walks the page tables of the process: not during a freeze. One without huge pages, or that has ended, is not noted.
 */
void mem_collapse_note(struct mem_collapse *h, pid_t pid);
/* Only in mappings that have fewer huge pages than were noted, and only where all small ones of a huge page are there:
 * it needs no more memory than before. May be called once. */
void mem_collapse_begin(struct mem_collapse *h);
/* Frees h, which may be NULL. Returns how many bytes were put together; processes that have ended meanwhile are left
 * out. */
uint64_t mem_collapse_end(struct mem_collapse *h);

#endif
