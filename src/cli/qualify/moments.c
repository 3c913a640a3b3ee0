#include "cli/qualify/moments.h"

#include <stdlib.h>

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t moments_next(struct moments_random *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int64_t moments_below(struct moments_random *r, int64_t below)
{
	/* the same part of any length, since the length of a run is never exactly the same */
	return (int64_t)(((unsigned __int128)moments_next(r) * (uint64_t)below) >> 64);
}

static int moments_ascending(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

void moments_make(struct moments_random *r, int64_t length_us, unsigned n, int64_t *v)
{
	const int64_t first = length_us / 10, span = length_us - length_us / 4 - first;

	for (unsigned i = 0; i < n; i++)
		v[i] = first + (span > 0 ? moments_below(r, span) : 0);
	if (n)
		qsort(v, n, sizeof(*v), moments_ascending);
}
