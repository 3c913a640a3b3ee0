/* Counters of the machine's load, parsed from the text of files in /proc. Pure: the caller reads the files. */
#ifndef FSCHED_BASE_LOAD_COUNTERS_H
#define FSCHED_BASE_LOAD_COUNTERS_H

#include <stdint.h>

struct load_counters {                      /* one sample */
	int64_t at;                         /* CLOCK_MONOTONIC, us; set by the caller */
	unsigned cpus;                      /* online */
	uint64_t busy, idle, iowait, steal; /* clock ticks since boot, all CPUs */
	int64_t psi_full;                   /* us since boot, -1 = no PSI */
	uint64_t mem_total, mem_available;  /* KiB */
};

/* Each sets the members of one file. 0, or -1 if the text lacks something. */
int load_parse_stat(const char *text, struct load_counters *c);     /* /proc/stat: cpus to steal */
int load_parse_meminfo(const char *text, struct load_counters *c);  /* /proc/meminfo: mem_total, mem_available */
int load_parse_pressure(const char *text, struct load_counters *c); /* /proc/pressure/io: psi_full */

#endif
