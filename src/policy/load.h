/* The load gate: is the node too busy for a periodic checkpoint?
 *
 * CPU: CPU time that a Slurm job uses within its allocation is not load; otherwise a node full of well-behaved jobs
 * would never get a checkpoint. The load is the busy share of the CPUs that the jobs leave over. For the window between
 * two samples:
 *
 *   N = CPUs online, less what the hypervisor took (steal)
 *   B = CPUs busy: all time except idle, iowait and steal
 *   J = sum over the Slurm jobs on the node of min(CPUs used, CPUs allocated)
 *   CPU load = (B - J) / max(N - J, N/20, 1/2), within 0..1
 *
 * So the load counts daemons, other users, and what a job uses beyond its allocation. The lower bound of the
 * denominator is what the node's own daemons may use on a full node before it counts as overloaded: half a CPU, or 5 %.
 *
 * I/O: the larger of the share of all CPU time spent in iowait and, where the kernel has PSI, the share of time in
 * which all tasks were stalled on I/O (the "full" line of the I/O pressure). Memory: 1 - MemAvailable / MemTotal.
 *
 * Pure: agent/load_sample.h takes the samples.
 */
#ifndef FSCHED_POLICY_LOAD_H
#define FSCHED_POLICY_LOAD_H

#include <stddef.h>

#include "base/load_counters.h"

struct load_job {
	double used;      /* CPUs, on average over the window */
	double allocated; /* CPUs */
};

struct load { /* each 0..1 */
	double cpu, io, memory;
};

struct load_thresholds {
	double cpu, io, memory;
};

enum load_verdict { LOAD_GO, LOAD_HIGH_CPU, LOAD_HIGH_IO, LOAD_HIGH_MEMORY };

/* Length of the window in clock ticks of one CPU, by the same clock as the counters. 0 if there are no CPUs. */
double load_window_ticks(const struct load_counters *begin, const struct load_counters *end);

/* Computes the load of the window from the two samples and the jobs that ran in it. */
void load_compute(const struct load_counters *begin, const struct load_counters *end, const struct load_job *jobs,
		  size_t n_jobs, struct load *out);

/* LOAD_GO, or the first threshold that is exceeded. text then names all exceeded ones: "CPU load 0.97 above
 * CRIU_LoadThresholdCPU 0.95"; otherwise "". */
enum load_verdict load_decide(const struct load_thresholds *t, const struct load *l, char *text, size_t len);

#endif
