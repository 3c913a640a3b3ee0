/* Reads the figures of the load gate from /proc, at the beginning and at the
 * end of a window (about half a second) between which the caller does what it
 * likes: nothing here waits.
 *
 * The processes of a Slurm job are the descendants of a slurmstepd of root, and
 * those that lost their parent but are still in its session. Job id and number
 * of CPUs come from SLURM_JOB_ID and SLURM_CPUS_ON_NODE (or
 * SLURM_JOB_CPUS_PER_NODE) in the environment of one of them, nearest to
 * slurmstepd first. A user can forge that: the worst he gets is that his own
 * excess is not taken for load. Processes of which nothing is found count as load.
 *
 * A job's CPU time in the window is the growth of utime+stime+cutime+cstime
 * over its tree, so that children that came and went are counted, but not less than the growth
 * of utime+stime of the processes that were there at the end. */
#ifndef FSCHED_AGENT_LOAD_SAMPLE_H
#define FSCHED_AGENT_LOAD_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "policy/load.h"

/* A tree of which the caller knows whose it is (the agent: its own). */
struct load_known {
	pid_t root; /* root and its descendants */
	uint32_t job_id;
	unsigned cpus; /* allocated */
};

struct load_sampler;

/* proc: "/proc" (tests give a tree of their own). known is copied. NULL on failure. */
struct load_sampler *load_sample_begin(const char *proc, const struct load_known *known, size_t n_known, struct err *err);
/* Fills *out with the load since load_sample_begin() and frees the sampler, also on failure. */
int load_sample_end(struct load_sampler *s, struct load *out, struct err *err);
/* Frees it without an answer; NULL is allowed. */
void load_sample_cancel(struct load_sampler *s);

#endif
