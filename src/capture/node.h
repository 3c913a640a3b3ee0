/* What is known of this node and of a process's room to grow. */
#ifndef FSCHED_CAPTURE_NODE_H
#define FSCHED_CAPTURE_NODE_H

#include <stdint.h>
#include <sys/types.h>
#include "capture/cost.h"

/* Measured on some 32 MiB, which takes less than 0.1 s, or taken from where an earlier measurement of this boot was
 * kept. Never fails: what cannot be measured gets values of an ordinary machine. drain_mb_per_s and compare_us_per_mb
 * are guesses until something has been written, and compared. */
void mem_node_probe(struct mem_node *n);
/* bytes of memory were read, compressed and written to the disk in us; the next probe knows. Little says nothing and is
 * ignored. */
void mem_node_drained(uint64_t bytes, uint64_t us);
/* bytes were read and compared with hashes, of which the changed ones were written too, in us of processor time. */
void mem_node_compared(uint64_t bytes, uint64_t changed, uint64_t us);

/* Bytes that processes may still take: the least of what the memory cgroups of pid (v1 and v2, all levels) and the
 * machine leave, with a margin kept back. Page cache that the kernel drops on its own counts as free. */
uint64_t mem_headroom(pid_t pid);

/* What /proc says of a running process. Reading it walks its page tables: not during a freeze. */
struct mem_usage {
	uint64_t anon, huge; /* bytes: anonymous, of it in huge pages */
	uint64_t shared; /* of anon: what others have too, after a fork, counted so that the sum over all is what was
			    counted twice */
};
int mem_usage_read(pid_t pid, struct mem_usage *u);

#endif
