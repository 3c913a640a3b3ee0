/* Measures what capturing memory costs on this node: struct mem_node of capture/cost.h. The results of one boot are
 * kept in files of /run/fsched (root's own, mode 0700), so that one measurement serves until the next boot. */
#ifndef FSCHED_CAPTURE_PROBE_H
#define FSCHED_CAPTURE_PROBE_H

#include <stdint.h>
#include "capture/cost.h"

/* Fills n from the results of this boot, or else measures with some 80 MiB of memory, which takes less than 0.1 s.
 * Never fails: a cost that cannot be measured gets the value of an ordinary machine. drain_mb_per_s and
 * compare_us_per_mb are guesses until mem_probe_note_drain() and mem_probe_note_compare() have been called. */
void mem_probe_node(struct mem_node *n);

/* A checkpoint has read, compressed and written bytes of memory to the disk in us microseconds. The mean with the
 * result before is kept for the next mem_probe_node(). Less than 64 MiB is ignored. */
void mem_probe_note_drain(uint64_t bytes, uint64_t us);

/* A checkpoint has read bytes of memory and compared them with hashes, and has written the changed ones among them, in
 * us microseconds of processor time. Ignored below 64 MiB, and if more than an eighth has changed: then the time is
 * mostly that of the compression. */
void mem_probe_note_compare(uint64_t bytes, uint64_t changed, uint64_t us);

#endif
