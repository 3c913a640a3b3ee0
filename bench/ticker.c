/* ticker MIB FILE [huge]: touches MIB mebibytes, then sleeps a millisecond at a time and appends to FILE every gap of more
 * than GAP_MIN, in microseconds: how long the job itself stood still. Ends when FILE.stop exists. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GAP_MIN 4000
#define HUGE    ((uintptr_t)2 << 20)

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ll + ts.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	const struct timespec ms = { 0, 1000000 };
	char stop[4096];
	size_t bytes;
	uint64_t *heap, x = 88172645463325252ull;
	int64_t last;
	FILE *f;

	if (argc != 3 && argc != 4)
		return 2;
	bytes = (size_t)atol(argv[1]) << 20;
	heap = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (heap == MAP_FAILED)
		return 1;
	heap = (uint64_t *)(((uintptr_t)heap + HUGE - 1) & ~(HUGE - 1));
	madvise(heap, bytes, argc == 4 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	f = fopen(argv[2], "a");
	if (!f)
		return 1;
	for (size_t i = 0; i < bytes / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		heap[i] = x;
	}
	fprintf(f, "ready\n");
	fflush(f);
	snprintf(stop, sizeof(stop), "%s.stop", argv[2]);
	last = now();
	for (unsigned n = 0;; n++) {
		int64_t t;

		nanosleep(&ms, NULL);
		t = now();
		if (t - last > GAP_MIN) {
			fprintf(f, "%lld\n", (long long)(t - last));
			fflush(f);
		}
		last = now();
		if (n % 100 == 0 && access(stop, F_OK) == 0)
			return 0;
	}
}
