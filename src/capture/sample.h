/* Estimates how fast running processes rewrite their memory, from a sample of their pages. */
#ifndef FSCHED_CAPTURE_SAMPLE_H
#define FSCHED_CAPTURE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Shares of the pages of a process, 0..1. A page that is rewritten again and again counts once, in hot. */
struct mem_rewriting {
	double hot;    /* rewritten during the observation; negative: not known */
	double spread; /* further pages that are rewritten per second */
};

#define MEM_SAMPLE_MS    50            /* duration of the observation */
#define MEM_SAMPLE_BYTES (16ull << 20) /* anonymous memory of a process. A smaller one is always copied: no sample */

/* Reads up to 1024 pages of plain anonymous memory of each process three times, compares them, and returns after
 * MEM_SAMPLE_MS. anon: bytes of anonymous memory of each process, from mem_usage_read(). A write that does not change
 * the content of a page is not detected. Only pages that are in memory are read: the processes are not changed. */
void mem_sample(const pid_t *pids, const uint64_t *anon, size_t n, struct mem_rewriting *out);

#endif
