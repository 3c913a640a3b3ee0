/* Which way a process's memory is taken: the model. Pure functions; where the numbers come from: node.h, sample.h.
 *
 * What counts is the progress that the job loses, not the freeze alone. A staged copy costs its time and nothing later.
 * A fork costs the copy of the page tables, and then a fault and a copy for every page that the job rewrites before the
 * child is gone, which is when everything has been written. */
#ifndef FSCHED_CAPTURE_COST_H
#define FSCHED_CAPTURE_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "capture/sample.h"

enum mem_method {
	MEM_DIRECT, /* written while the process stands still */
	MEM_STAGED, /* copied into memory that was prepared before, written afterwards */
	MEM_FORKED, /* a child holds it */
	MEM_METHODS
};
const char *mem_method_name(enum mem_method r);

/* Of this node; see node.h. */
struct mem_node {
	double copy_us_per_mb;    /* from another process into memory that is there */
	double fork_us_per_mb;    /* page tables of small pages */
	double huge_us_per_mb;    /* and of huge ones */
	double cow_us;            /* the first write to a small page after a fork */
	double huge_cow_us;       /* and to 4 KiB of a huge one, with its part of what splitting the huge page takes */
	double notice_us;         /* the first write to a page whose writes are noticed (capture/track.h) */
	double drain_mb_per_s;    /* read, compressed and on the disk */
	double compare_us_per_mb; /* processor time to read and to compare with hashes */
};

struct mem_cost_input {
	uint64_t bytes;  /* of the process that are to be taken */
	uint64_t mapped; /* of the process in all: a fork copies their page tables, whatever is taken */
	uint64_t huge;   /* of them in huge pages */
	uint64_t drain;  /* bytes of all processes that are written while a child is there */
	struct mem_rewriting rewriting;
	uint64_t room;     /* bytes of memory left for a copy */
	uint64_t cow_room; /* bytes by which its memory may grow */
	bool may_fork;
};

/* The choice, and the reason in a few words. */
enum mem_method mem_choose_method(const struct mem_node *n, const struct mem_cost_input *c, char *why, size_t len);

/* Whether the job's writes should be noticed from one checkpoint to the next: a fault for every page that it writes,
 * instead of reading and comparing those that it does not write. changed: their share, 0..1. */
bool mem_worth_tracking(const struct mem_node *n, double changed);

#endif
