/* Reads the figures of the load gate (policy/load.h) from /proc, at the beginning and at the end of a window of about
 * half a second. Nothing here waits: what happens in the window is the caller's affair.
 *
 * The processes of a Slurm job are the descendants of a slurmstepd of root, and those whose parent has ended but which
 * are still in its session. The job id and the number of CPUs come from SLURM_JOB_ID and SLURM_CPUS_ON_NODE (or
 * SLURM_JOB_CPUS_PER_NODE) in the environment of one of them, nearest to slurmstepd first. A user can forge these; the
 * worst effect is that the excess of his own job is not counted as load. Processes for which nothing is found count as
 * load.
 *
 * A job's CPU time in the window is the growth of utime+stime+cutime+cstime over its tree, so that children that came
 * and went are counted, but not less than the growth of utime+stime of the processes that exist at its end. */
#ifndef FSCHED_AGENT_LOAD_SAMPLE_H
#define FSCHED_AGENT_LOAD_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "policy/load.h"

/* A process tree whose job the caller knows; the agent knows its own. */
struct load_known {
	pid_t root; /* root and its descendants */
	uint32_t job_id;
	unsigned cpus; /* allocated */
};

struct load_sampler;

/* Begins the window. proc: "/proc" (tests give a tree of their own). known is copied. NULL with err on failure. */
struct load_sampler *load_sample_begin(const char *proc, const struct load_known *known, size_t n_known, struct err *err);
/* Fills *out with the load since load_sample_begin(). 0, or -1 with err. Frees s in both cases. */
int load_sample_end(struct load_sampler *s, struct load *out, struct err *err);
/* Frees s, which may be NULL. */
void load_sample_cancel(struct load_sampler *s);

#endif
