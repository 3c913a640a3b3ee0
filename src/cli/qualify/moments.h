/* Random moments of a run, the same for the same seed on every machine. */
#ifndef FSCHED_CLI_QUALIFY_MOMENTS_H
#define FSCHED_CLI_QUALIFY_MOMENTS_H

#include <stdint.h>

struct moments_random {
	uint64_t state; /* begins as the seed */
};

/* A number in [0, below); below > 0. */
int64_t moments_below(struct moments_random *r, int64_t below);

/* Writes n ascending moments of a run that takes length_us: none in its first tenth or its last quarter. */
void moments_make(struct moments_random *r, int64_t length_us, unsigned n, int64_t *v);

#endif
