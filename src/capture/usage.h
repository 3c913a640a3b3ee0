/* How much memory a process uses, from /proc/PID/smaps_rollup (Linux 4.14). */
#ifndef FSCHED_CAPTURE_USAGE_H
#define FSCHED_CAPTURE_USAGE_H

#include <stdint.h>
#include <sys/types.h>

/* All in bytes. */
struct mem_usage {
	uint64_t anon; /* anonymous memory */
	uint64_t huge; /* of anon: in huge pages */
	/* Of anon: the part that other processes pay for, Anonymous - Pss_Anon. Pages that processes share since a fork
	 * are in the anon of each of them; the sum of shared over all processes is what is counted more than once. */
	uint64_t shared;
};

/* The kernel walks the page tables of the process for this: do not call it during a freeze. -1 if the process has
 * ended. */
int mem_usage_read(pid_t pid, struct mem_usage *u);

#endif
