/* threads STEPS MIB: four threads mix a shared heap of MIB mebibytes; the sum
 * of every word is printed at the end. Exit status 5. */
#include <pthread.h>
#include "workload.h"

#define THREADS 4

static uint64_t *heap;
static size_t words;
static int steps;
static uint64_t local_sum[THREADS];
static pthread_barrier_t barrier;
static __thread uint64_t tls;

static void *run(void *arg)
{
	size_t t = (size_t)arg, i;

	tls = t + 1;
	for (int k = 0; k < steps; k++) {
		for (i = t + (size_t)k * THREADS; i < words; i += 4099 * THREADS)
			heap[i] = tls = mix(heap[i] + tls, (uint64_t)k);
		local_sum[t] = tls;
		pthread_barrier_wait(&barrier);
		if (t == 0) {
			step_line(k, local_sum[0] ^ local_sum[1] ^ local_sum[2] ^ local_sum[3]);
			pace();
		}
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[THREADS];
	uint64_t sum = 0;

	if (argc != 3)
		return 2;
	steps = atoi(argv[1]);
	words = (size_t)atol(argv[2]) << 17;
	heap = malloc(words * sizeof(*heap));
	if (!heap)
		die("malloc");
	for (size_t i = 0; i < words; i++)
		heap[i] = mix(i, 1);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (size_t t = 0; t < THREADS; t++)
		if (pthread_create(&th[t], NULL, run, (void *)t))
			die("pthread_create");
	for (int t = 0; t < THREADS; t++)
		pthread_join(th[t], NULL);
	for (size_t i = 0; i < words; i++)
		sum = mix(sum, heap[i]);
	printf("sum %016llx\n", (unsigned long long)sum);
	return 5;
}
