/* How fast running processes rewrite their memory, as far as a look at a few of their pages tells. */
#ifndef FSCHED_CAPTURE_SAMPLE_H
#define FSCHED_CAPTURE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Shares of the pages of a process. Pages that are rewritten over and over count once, in hot; spread is what is
 * reached besides. */
struct mem_rewriting {
	double hot;    /* rewritten while it was watched; negative: not known */
	double spread; /* reached anew per second of it */
};

#define MEM_SAMPLE_MS    50            /* how long the processes are watched */
#define MEM_SAMPLE_BYTES (16ull << 20) /* of a process: what is smaller is copied in any case, and not looked at */

/* Reads up to 1024 pages of plain anonymous memory of each process three times, compares them, and returns after
 * MEM_SAMPLE_MS. anon: bytes of anonymous memory of each, as mem_usage_read() says. A page that is written with what it
 * holds is not noticed. Only pages that are there are read: a look changes nothing in the process. */
void mem_sample(const pid_t *pids, const uint64_t *anon, size_t n, struct mem_rewriting *out);

#endif
