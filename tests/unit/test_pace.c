/* image/pace.c against a simulated storage and simulated threads. */
#include "unit.h"

#include <string.h>

#include "base/util.h"
#include "image/pace.h"

#define CHUNK     ((size_t)256 << 10)
#define IN_FLIGHT ((double)(8 << 20))
#define MIB       1048576.0

struct machine {
	double disk;  /* bytes per microsecond that the storage takes */
	double speed; /* of the compression by one thread, bytes of memory per microsecond */
	double ratio; /* compressed to raw */
	unsigned threads;
};

enum policy { RAW, COMPRESSED, PACED };

struct result {
	double us, stored;
};

/* Each thread encodes a chunk at a time and waits while more than IN_FLIGHT bytes of its own are before the storage. */
static struct result simulate(const struct machine *m, double bytes, enum policy policy)
{
	double free_at = 0, clock[8] = { 0 }, done[8] = { 0 };
	struct pace_thread threads[8] = { 0 };
	struct result r = { 0 };
	struct pace p;

	pace_init(&p, m->threads);
	for (double left = bytes; left > 0; left -= CHUNK) {
		unsigned i = 0;
		bool compress;
		double us, stored;

		for (unsigned k = 1; k < m->threads; k++)
			i = clock[k] < clock[i] ? k : i;
		compress = policy == COMPRESSED || (policy == PACED && pace_compresses(&p, &threads[i]));
		us = compress ? CHUNK / m->speed : 1;
		stored = compress ? CHUNK * m->ratio : CHUNK;
		clock[i] += us;
		pace_encoded(&p, &threads[i], CHUNK, compress, (int64_t)us, (int64_t)clock[i]);
		free_at = (free_at > clock[i] ? free_at : clock[i]) + stored / m->disk;
		done[i] = free_at;
		if (done[i] - clock[i] > IN_FLIGHT / m->disk)
			clock[i] = done[i] - IN_FLIGHT / m->disk;
		r.stored += stored;
	}
	for (unsigned k = 0; k < m->threads; k++)
		r.us = done[k] > r.us ? done[k] : r.us;
	return r;
}

/* Of 4 GiB it takes hardly longer than the better of both ways, whichever that is. */
static void as_fast_as_the_better_way(void **state)
{
	static const double disks[] = { 50, 100, 200, 400, 800, 1600, 6400 }, speeds[] = { 100, 250, 500, 1500 },
			    ratios[] = { 0.1, 0.3, 0.75 };

	for (size_t d = 0; d < ARRAY_SIZE(disks); d++)
		for (size_t s = 0; s < ARRAY_SIZE(speeds); s++)
			for (size_t r = 0; r < ARRAY_SIZE(ratios); r++)
				for (unsigned threads = 1; threads <= 8; threads *= 2) {
					const struct machine m = { disks[d], speeds[s], ratios[r], threads };
					const double raw = simulate(&m, 4096 * MIB, RAW).us;
					const double compressed = simulate(&m, 4096 * MIB, COMPRESSED).us;
					const double paced = simulate(&m, 4096 * MIB, PACED).us;
					const double better = raw < compressed ? raw : compressed;

					/* What is written raw to know the storage costs most where compression saves
					 * most. */
					if (paced >
					    better * 1.15 + 2 * threads * (double)(PACE_WARM + PACE_MEASURE) / m.disk)
						fail_msg("disk %.0f, speed %.0f, ratio %.2f, %u threads: %.2f s, raw %.2f, compressed %.2f",
							 m.disk, m.speed, m.ratio, threads, paced / 1e6, raw / 1e6,
							 compressed / 1e6);
				}
}

/* Where the storage is slow nearly all is compressed, where it is fast next to nothing. */
static void compresses_where_it_pays(void **state)
{
	const struct machine slow = { 100, 300, 0.25, 4 }, fast = { 2000, 300, 0.25, 4 };

	assert_true(simulate(&slow, 4096 * MIB, PACED).stored < 4096 * MIB * 0.35);
	assert_true(simulate(&fast, 4096 * MIB, PACED).stored > 4096 * MIB * 0.95);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_fast_as_the_better_way),
		cmocka_unit_test(compresses_where_it_pays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
