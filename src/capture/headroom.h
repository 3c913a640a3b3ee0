/* How much memory processes may still allocate. */
#ifndef FSCHED_CAPTURE_HEADROOM_H
#define FSCHED_CAPTURE_HEADROOM_H

#include <stdint.h>
#include <sys/types.h>

/* Bytes: the minimum of what the memory cgroups of pid (v1 and v2, all levels up to the root) and the machine have
 * left, less a reserve of a sixteenth and 64 MiB. Page cache that the kernel reclaims by itself (inactive file pages,
 * MemAvailable) counts as free. 0 if /proc cannot be read. */
uint64_t mem_headroom(pid_t pid);

#endif
