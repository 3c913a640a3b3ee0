/* Shared by the test workloads: a deterministic mixer and a paced step.
 *
 * Every workload prints one line per step and nothing that depends on time,
 * pid or host, so that an interrupted and an uninterrupted run can be compared
 * byte for byte. WORKLOAD_STEP_US sets the pace (default 50000); from when the
 * file "hurry" is in the working directory on, there is none: so a workload has
 * as many steps as a test may need, and ends as soon as that is over. */
#ifndef FSCHED_TESTS_WORKLOAD_H
#define FSCHED_TESTS_WORKLOAD_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t mix(uint64_t h, uint64_t x)
{
	h ^= x;
	h *= 0x9E3779B97F4A7C15ull;
	return h ^ (h >> 29);
}

static inline void pace(void)
{
	static long us = -1;
	struct timespec ts;

	if (access("hurry", F_OK) == 0)
		return;
	if (us < 0)
		us = getenv("WORKLOAD_STEP_US") ? atol(getenv("WORKLOAD_STEP_US")) : 50000;
	ts.tv_sec = us / 1000000;
	ts.tv_nsec = us % 1000000 * 1000;
	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

static inline void step_line(int i, uint64_t h)
{
	printf("step %d %016llx\n", i, (unsigned long long)h);
	fflush(stdout);
}

static inline void die(const char *what)
{
	fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
	exit(99);
}

#endif
