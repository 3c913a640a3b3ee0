/* load [-H] [-t THREADS] [-p PROCESSES] [-r MB/S] [-d DIRECTORY] KIND MIB BOARD
 *
 * A job for the benchmarks that uses MIB mebibytes in all of its processes together. KIND is what it does with them:
 *
 *   idle      nothing: it computes in registers
 *   write     rewrites random pages at a rate of -r MB per second; it does not make up for the time of a freeze
 *   stencil   applies a five-point stencil from one grid of doubles to another, back and forth: rewrites everything
 *   walk      random walk of float32 numbers
 *   file      rewrites random pages of a file of MIB mebibytes, load.data in the directory -d, at a rate of -r MB per
 *             second; it has no memory to speak of
 *
 * -H asks for huge pages; without it there are none. Each process has THREADS threads.
 *
 * BOARD is a file on a tmpfs that other programs read and write while this runs: struct board. A thread of the first
 * process ticks there every millisecond, with a high priority where that is allowed, so that a missing tick means a
 * freeze and not a busy machine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PAGE     4096ul
#define WORDS    (PAGE / 8)
#define HUGE     (2ul << 20)
#define WORKERS  64     /* threads of all processes */
#define WIDTH    2048ul /* doubles of a row of the grid */
#define BURST_US 10000  /* period of the kind "write" */

/* All numbers are 8 bytes long; times are of CLOCK_MONOTONIC, in microseconds. bench/pod.py knows this layout. */
struct board {
	uint64_t ready;   /* processes whose memory is filled */
	uint64_t stop;    /* written by others: end */
	uint64_t wanted;  /* written by others: number of pages to rewrite; reset to 0 when that is done */
	uint64_t longest; /* longest time between two ticks; others reset it to 0 */
	uint64_t longest_end;
	uint64_t last; /* tick */
	uint64_t unused[2];
	struct {
		uint64_t n, unused[7];
	} work[WORKERS];
};

static struct board *board;
static int threads = 1, processes = 1;
static uint64_t rate = 100;
static const char *directory = ".";
static int data_fd;
static uint8_t *heap;
static size_t bytes;
static pthread_barrier_t barrier;

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void sleep_until(uint64_t us)
{
	const struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL))
		;
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void fill_random(uint8_t *p, size_t len, uint64_t *x)
{
	for (uint64_t *w = (uint64_t *)(void *)p; len; len -= 8)
		*w++ = next_random(x);
}

static void worked(int id, uint64_t n)
{
	__atomic_fetch_add(&board->work[id].n, n, __ATOMIC_RELAXED);
}

static void *tick(void *arg)
{
	uint64_t last = now_us();

	(void)arg;
	setpriority(PRIO_PROCESS, (id_t)gettid(), -15);
	for (;;) {
		uint64_t t;

		sleep_until(last + 1000);
		t = now_us();
		if (t - last > board->longest) {
			board->longest_end = t;
			board->longest = t - last;
		}
		board->last = last = t;
	}
	return NULL;
}

/* ---- kinds: what a thread does with its slice of the heap -------------------------------- */

struct slice {
	uint8_t *base;
	size_t len;
	int id, thread;
	uint64_t seed;
};

static void idle(struct slice *s)
{
	for (;;) {
		for (int i = 0; i < 100000; i++)
			next_random(&s->seed);
		worked(s->id, 1);
	}
}

/* Calls change() at the rate that was asked for. */
static void in_bursts(struct slice *s, void (*change)(struct slice *s))
{
	const uint64_t all = rate * 1000000 / PAGE * BURST_US / 1000000, n = all / (uint64_t)(threads * processes);
	uint64_t due = now_us();

	for (;;) {
		for (uint64_t i = 0; i < n; i++) {
			change(s);
			worked(s->id, 1);
		}
		due += BURST_US;
		if (now_us() > due)
			due = now_us();
		else
			sleep_until(due);
	}
}

static void change_page(struct slice *s)
{
	fill_random(s->base + next_random(&s->seed) % (s->len / PAGE) * PAGE, PAGE, &s->seed);
}

static void write_pages(struct slice *s)
{
	in_bursts(s, change_page);
}

static void change_page_of_file(struct slice *s)
{
	uint8_t page[PAGE];

	fill_random(page, PAGE, &s->seed);
	if (pwrite(data_fd, page, PAGE, (off_t)(next_random(&s->seed) % (s->len / PAGE) * PAGE)) != (ssize_t)PAGE) {
		perror("load.data");
		exit(1);
	}
}

static void write_file(struct slice *s)
{
	in_bursts(s, change_page_of_file);
}

/* The grids are the two halves of the heap. Each thread updates its rows of both; the border stays unchanged. */
static void stencil(struct slice *s)
{
	const size_t rows = bytes / 2 / (WIDTH * 8), first = rows * (size_t)s->thread / (size_t)threads;
	const size_t end = rows * (size_t)(s->thread + 1) / (size_t)threads;
	double *from = (double *)(void *)heap, *to = from + rows * WIDTH, *swap;

	for (;;) {
		for (size_t r = first ? first : 1; r < (end < rows ? end : rows - 1); r++) {
			const double *a = from + r * WIDTH;
			double *b = to + r * WIDTH;

			for (size_t i = 1; i < WIDTH - 1; i++)
				b[i] = 0.25 * (a[i - 1] + a[i + 1] + a[i - WIDTH] + a[i + WIDTH]);
			worked(s->id, 1);
		}
		pthread_barrier_wait(&barrier);
		swap = from;
		from = to;
		to = swap;
	}
}

static void walk(struct slice *s)
{
	float *x = (float *)(void *)s->base;
	const size_t n = s->len / sizeof(float);

	for (;;)
		for (size_t i = 0; i < n; i++) {
			x[i] += ((float)(next_random(&s->seed) >> 40) / (float)(1 << 24) - 0.5f) * 0.01f;
			if (i % 1024 == 0)
				worked(s->id, 1);
		}
}

static void fill_doubles(void)
{
	double *d = (double *)(void *)heap;
	const size_t n = bytes / 16;

	for (size_t i = 0; i < n; i++)
		d[i] = sin((double)(i / WIDTH) * 0.003) * cos((double)(i % WIDTH) * 0.005) + 1e-4 * sin((double)i * 1e-5);
	memcpy(d + n, d, n * 8);
}

static void fill_floats(void)
{
	float *f = (float *)(void *)heap;
	uint64_t x = 88172645463325252u;
	float v = 300;

	for (size_t i = 0; i < bytes / sizeof(float); i++)
		f[i] = v += ((float)(next_random(&x) >> 40) / (float)(1 << 24) - 0.5f) * 0.01f;
}

static void fill_heap(void)
{
	uint64_t x = 88172645463325252u + (uint64_t)getpid();

	fill_random(heap, bytes, &x);
}

/* There is no other heap; a slice's length is that of the file. */
static void fill_file(void)
{
	uint64_t x = 88172645463325252u;
	uint8_t page[PAGE];
	char path[4096];

	snprintf(path, sizeof(path), "%s/load.data", directory);
	data_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (size_t at = 0; at < bytes; at += PAGE) {
		fill_random(page, PAGE, &x);
		if (pwrite(data_fd, page, PAGE, (off_t)at) != (ssize_t)PAGE) {
			perror(path);
			exit(1);
		}
	}
}

static const struct kind {
	const char *name;
	void (*run)(struct slice *s);
	void (*fill)(void);
	int without_heap;
} kinds[] = {
	{ "idle", idle, fill_heap, 0 },          { "write", write_pages, fill_heap, 0 },
	{ "stencil", stencil, fill_doubles, 0 }, { "walk", walk, fill_floats, 0 },
	{ "file", write_file, fill_file, 1 },
};
static const struct kind *kind;

/* ---- a process -------------------------------------------------------------------- */

static void *run(void *arg)
{
	kind->run(arg);
	return NULL;
}

/* Rewrites a random page in each of n equal parts of the heap. */
static void rewrite(uint64_t n)
{
	static uint64_t x = 521288629u;
	const size_t part = bytes / PAGE / n;

	for (uint64_t i = 0; i < n; i++)
		fill_random(heap + (i * part + next_random(&x) % part) * PAGE, PAGE, &x);
}

static int allocate(int huge)
{
	uint8_t *p;

	if (kind->without_heap) {
		kind->fill();
		return 0;
	}
	p = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -1;
	heap = (uint8_t *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	madvise(heap, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	madvise(heap, bytes, MADV_POPULATE_WRITE);
	kind->fill();
	return 0;
}

static void start_thread(void *(*f)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, f, arg)) {
		perror("pthread_create");
		exit(1);
	}
}

/* Runs the process with this number until the board says stop. */
static int process(int number, int huge)
{
	if (allocate(huge)) {
		perror("mmap");
		return 1;
	}
	pthread_barrier_init(&barrier, NULL, (unsigned)threads);
	if (number == 0)
		start_thread(tick, NULL);
	for (int i = 0; i < threads; i++) {
		struct slice *s = malloc(sizeof(*s));
		const size_t len = bytes / (size_t)threads / PAGE * PAGE;

		*s = (struct slice){ heap + (size_t)i * len, len, number * threads + i, i,
				     2463534242u + (uint64_t)(number * threads + i) };
		start_thread(run, s);
	}
	__atomic_fetch_add(&board->ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&board->stop, __ATOMIC_RELAXED)) {
		uint64_t wanted = __atomic_load_n(&board->wanted, __ATOMIC_RELAXED);

		if (number == 0 && wanted) {
			rewrite(wanted);
			__atomic_store_n(&board->wanted, 0, __ATOMIC_SEQ_CST);
		}
		usleep(5000);
	}
	return 0;
}

static int map_board(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*board)))
		return -1;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return board == MAP_FAILED ? -1 : 0;
}

int main(int argc, char **argv)
{
	int opt, huge = 0;

	while ((opt = getopt(argc, argv, "Ht:p:r:d:")) != -1)
		switch (opt) {
		case 'H': huge = 1; break;
		case 't': threads = atoi(optarg); break;
		case 'p': processes = atoi(optarg); break;
		case 'd': directory = optarg; break;
		case 'r': rate = strtoul(optarg, NULL, 10); break;
		default: return 2;
		}
	for (size_t i = 0; argc == optind + 3 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, argv[optind]))
			kind = &kinds[i];
	if (!kind || threads < 1 || processes < 1 || threads * processes > WORKERS || atol(argv[optind + 1]) < processes) {
		fputs("usage: load [-H] [-t THREADS] [-p PROCESSES] [-r MB/S] [-d DIRECTORY] "
		      "idle|write|stencil|walk|file MIB BOARD\n",
		      stderr);
		return 2;
	}
	bytes = (strtoul(argv[optind + 1], NULL, 10) << 20) / (size_t)processes / PAGE * PAGE;
	if (map_board(argv[optind + 2])) {
		perror(argv[optind + 2]);
		return 1;
	}
	for (int i = 1; i < processes; i++)
		if (fork() == 0)
			return process(i, huge);
	return process(0, huge);
}
