/* The load gate: is the node too busy for a periodic checkpoint?
 *
 * CPU. What a Slurm job does with the CPUs that it was given is not load, or a
 * full node of well-behaved jobs would never get a checkpoint. Load is how much
 * of what the jobs leave is busy. Over the window between two samples:
 *
 *   N = CPUs online, less what the hypervisor took (steal)
 *   B = CPUs busy: all time but idle, iowait and steal
 *   J = sum over the Slurm jobs on the node of min(CPUs used, CPUs allocated)
 *   CPU load = (B - J) / max(N - J, N/20, 1/2), within 0..1
 *
 * So daemons, other users and the excess of a job that uses more CPUs than it
 * has count. The floor of the denominator is what the node's own daemons may
 * take from a full node before it counts as overloaded: half a CPU, or 5 %.
 *
 * I/O = the larger of the share of all CPU time spent in iowait and, where the
 * kernel has PSI, the share of time in which all work stood still for I/O
 * ("full" of /proc/pressure/io). Memory = 1 - MemAvailable / MemTotal.
 *
 * Pure; load_sample.h reads the figures from /proc.
 */
#ifndef FSCHED_POLICY_LOAD_H
#define FSCHED_POLICY_LOAD_H

#include <stddef.h>
#include <stdint.h>

struct load_counters {                      /* one look at the machine */
	int64_t at;                         /* CLOCK_MONOTONIC, us */
	unsigned cpus;                      /* online */
	uint64_t busy, idle, iowait, steal; /* clock ticks since boot, all CPUs */
	int64_t psi_full;                   /* us since boot, -1 = no PSI */
	uint64_t mem_total, mem_available;  /* KiB */
};

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

/* Reads the text of /proc/stat, /proc/meminfo, /proc/pressure/io into c. 0 or -1. */
int load_parse_stat(const char *text, struct load_counters *c);
int load_parse_meminfo(const char *text, struct load_counters *c);
int load_parse_pressure(const char *text, struct load_counters *c);

/* Length of the window in clock ticks, by the same clock as the counters. */
double load_window_ticks(const struct load_counters *begin, const struct load_counters *end);

/* What the counters and the jobs of the window amount to. */
void load_compute(const struct load_counters *begin, const struct load_counters *end, const struct load_job *jobs,
		  size_t n_jobs, struct load *out);

/* LOAD_GO, or the first threshold that is exceeded; text then names all of
 * them: "CPU load 0.97 above CRIU_LoadThresholdCPU 0.95". */
enum load_verdict load_decide(const struct load_thresholds *t, const struct load *l, char *text, size_t len);

#endif
