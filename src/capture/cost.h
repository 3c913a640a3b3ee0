/* Chooses how the memory of a process is captured, with a model of the costs. Pure functions; the numbers come from
 * capture/probe.h, capture/sample.h, capture/usage.h and capture/headroom.h.
 *
 * The cost is the computing time that the job loses, not the length of the freeze alone. A staged copy costs its time
 * and nothing afterwards. A fork costs the copy of the page tables, and afterwards a page fault and a copy for every
 * page that the job rewrites before the child is gone, which is when everything has been written. */
#ifndef FSCHED_CAPTURE_COST_H
#define FSCHED_CAPTURE_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "capture/sample.h"

enum mem_method {
	MEM_DIRECT, /* written to the disk while the process is frozen */
	MEM_STAGED, /* copied into memory that was prepared before the freeze, written after the thaw */
	MEM_FORKED, /* held by a forked child, written after the thaw */
	MEM_METHODS
};
/* "direct", "staged", "fork": as in the manifest. */
const char *mem_method_name(enum mem_method r);

/* The costs on this node: microseconds unless the name says otherwise. */
struct mem_node {
	double copy_us_per_mb;    /* copy from another process into memory that is faulted in */
	double fork_us_per_mb;    /* fork: page tables of small pages */
	double huge_us_per_mb;    /* fork: page tables of huge pages */
	double cow_us;            /* first write to a small page after a fork */
	double huge_cow_us;       /* first write to 4 KiB of a huge page after a fork, with its share of splitting it */
	double notice_us;         /* first write to a tracked page (capture/track.h) */
	double drain_mb_per_s;    /* memory read, compressed and written to the disk */
	double compare_us_per_mb; /* processor time to read memory and compare it with hashes */
};

/* A process and what it may use. All in bytes. */
struct mem_cost_input {
	uint64_t bytes;  /* to be captured */
	uint64_t mapped; /* memory of the process in all: a fork copies all page tables */
	uint64_t huge;   /* of mapped: in huge pages */
	uint64_t drain;  /* to be written, of all processes: the child exists that long */
	struct mem_rewriting rewriting;
	uint64_t room;     /* memory for a copy */
	uint64_t cow_room; /* by how much the memory of the process may grow after a fork */
	bool may_fork;
};

/* Returns the cheapest method that is possible, and writes the reason for people into why. */
enum mem_method mem_choose_method(const struct mem_node *n, const struct mem_cost_input *c, char *why, size_t len);

/* Whether the job's writes should be tracked from one checkpoint to the next: this costs a page fault for every page
 * that the job writes, and saves reading and comparing the pages that it does not write. changed: the share of the
 * pages that it writes, 0..1. */
bool mem_worth_tracking(const struct mem_node *n, double changed);

#endif
