/* memory MIB THREADS PROCESSES: every page of every generation is verified before it is rewritten, so a snapshot that
 * is torn, or a page that comes back as another one, is found. Besides: memory of all kinds whose content never
 * changes, a heap that grows and shrinks, an area that is moved. WORKLOAD_STEP_US (20000) is what it rests between two
 * looks at all that, and a hundredth of it between 64 rewritten pages: a slow machine needs more, or nobody else gets
 * the processor. Runs until the file "stop" exists; prints "errors N" and exits with 0 if N is 0. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

#define PAGE        4096ul
#define WORDS       (PAGE / 8)
#define MAX_THREADS 16
#define SMALL       (1ul << 20)

struct slice {
	uint64_t *base;
	size_t pages;
	unsigned id;
};

static useconds_t rest = 20000;
static volatile int stopping;
static volatile long errors;
static volatile uint64_t generations;

static void wrong(const char *what, size_t where)
{
	if (__atomic_add_fetch(&errors, 1, __ATOMIC_SEQ_CST) < 20)
		fprintf(stderr, "pid %d: %s differs at %zu\n", getpid(), what, where);
}

static uint64_t seed(uint64_t id, uint64_t index, uint64_t generation)
{
	return mix(mix(mix(1, id), index), generation);
}

static void fill_page(uint64_t *p, uint64_t s)
{
	for (size_t i = 0; i < WORDS; i++)
		p[i] = s + i * 0x9e3779b97f4a7c15ull;
}

static int same_page(const uint64_t *p, uint64_t s)
{
	for (size_t i = 0; i < WORDS; i++)
		if (p[i] != s + i * 0x9e3779b97f4a7c15ull)
			return 0;
	return 1;
}

static void *map(size_t len, int flags, int fd)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void *rewrite(void *arg)
{
	struct slice *s = arg;

	for (uint64_t g = 0; !stopping; g++) {
		for (size_t i = 0; i < s->pages && !stopping; i++) {
			if (!same_page(s->base + i * WORDS, seed(s->id, i, g)))
				wrong("a rewritten page", i);
			fill_page(s->base + i * WORDS, seed(s->id, i, g + 1));
			if (i % 64 == 0)
				usleep(rest / 100);
		}
		if (!stopping)
			__atomic_add_fetch(&generations, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* ---- what never changes -------------------------------------------------- */

static uint64_t *common, *file, *none, *shared, *zero;

static void make_still(void)
{
	int fd = open("file.bin", O_RDWR | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, SMALL))
		die("file.bin");
	file = map(SMALL, MAP_PRIVATE, fd);
	close(fd);
	none = map(SMALL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	zero = map(4 * SMALL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (size_t i = 0; i < SMALL / PAGE; i++) {
		if (i % 2)
			fill_page(file + i * WORDS, seed(101, i, 0));
		fill_page(none + i * WORDS, seed(102, i, 0));
	}
	for (size_t i = 0; i < 4 * SMALL / PAGE; i++)
		memset(zero + i * WORDS, 0, PAGE); /* there, and zero */
	mprotect(none, SMALL, PROT_NONE);
}

static void check_still(void)
{
	for (size_t i = 0; i < SMALL / PAGE; i++) {
		if (i % 2 ? !same_page(file + i * WORDS, seed(101, i, 0)) : file[i * WORDS] != 0)
			wrong("private memory of a file", i);
		if (!same_page(shared + i * WORDS, seed(103, i, 0)))
			wrong("shared memory", i);
		for (size_t k = 0; k < 4 * WORDS; k++)
			if (zero[i * 4 * WORDS + k])
				wrong("zero memory", i);
	}
	mprotect(none, SMALL, PROT_READ);
	for (size_t i = 0; i < SMALL / PAGE; i++)
		if (!same_page(none + i * WORDS, seed(102, i, 0)))
			wrong("memory without access", i);
	mprotect(none, SMALL, PROT_NONE);
	for (size_t i = 0; i < 4 * SMALL / PAGE; i++)
		if (!same_page(common + i * WORDS, seed(104, i, 0)))
			wrong("memory from before the fork", i);
}

/* ---- what changes its place ------------------------------------------------ */

#define BLOCKS 24

static void move_about(unsigned round)
{
	static uint64_t *blocks[BLOCKS], *moved;
	static size_t len = SMALL;
	unsigned k = round % BLOCKS;

	if (blocks[k]) {
		for (size_t i = 0; i < SMALL / 2 / PAGE; i++)
			if (!same_page(blocks[k] + i * WORDS, seed(105, k, i)))
				wrong("heap", i);
		free(blocks[k]);
		blocks[k] = NULL;
	} else {
		blocks[k] = malloc(SMALL / 2);
		for (size_t i = 0; i < SMALL / 2 / PAGE; i++)
			fill_page(blocks[k] + i * WORDS, seed(105, k, i));
	}
	if (!moved) {
		moved = map(len, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		for (size_t i = 0; i < SMALL / PAGE; i++)
			fill_page(moved + i * WORDS, seed(106, i, 0));
	}
	moved = mremap(moved, len, round % 2 ? SMALL : 3 * SMALL, MREMAP_MAYMOVE);
	len = round % 2 ? SMALL : 3 * SMALL;
	if (moved == MAP_FAILED)
		die("mremap");
	for (size_t i = 0; i < SMALL / PAGE; i++)
		if (!same_page(moved + i * WORDS, seed(106, i, 0)))
			wrong("moved memory", i);
}

static int run(size_t mib, unsigned threads)
{
	struct slice s[MAX_THREADS];
	pthread_t t[MAX_THREADS];
	char deep[65536];

	make_still();
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = (char)(i * 5);
	__asm__ volatile("" : : "r"(deep) : "memory");
	for (unsigned i = 0; i < threads; i++) {
		s[i] = (struct slice){ map((mib << 20) / threads, MAP_PRIVATE | MAP_ANONYMOUS, -1),
				       (mib << 20) / threads / PAGE, i };
		for (size_t k = 0; k < s[i].pages; k++)
			fill_page(s[i].base + k * WORDS, seed(i, k, 0));
	}
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, rewrite, &s[i]))
			die("pthread_create");
	printf("ready\n");
	fflush(stdout);
	for (unsigned round = 0; access("stop", F_OK); round++) {
		check_still();
		move_about(round);
		for (size_t i = 0; i < sizeof(deep); i++)
			if (deep[i] != (char)(i * 5))
				wrong("the stack", i);
		usleep(rest);
	}
	stopping = 1;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	printf("errors %ld generations %llu\n", errors, (unsigned long long)generations);
	fflush(stdout);
	return errors != 0;
}

int main(int argc, char **argv)
{
	unsigned processes, failed = 0;
	int status;

	if (argc != 4)
		return 2;
	if (getenv("WORKLOAD_STEP_US"))
		rest = (useconds_t)atol(getenv("WORKLOAD_STEP_US"));
	processes = (unsigned)atoi(argv[3]);
	common = map(4 * SMALL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	shared = map(SMALL, MAP_SHARED | MAP_ANONYMOUS, -1);
	for (size_t i = 0; i < 4 * SMALL / PAGE; i++)
		fill_page(common + i * WORDS, seed(104, i, 0));
	for (size_t i = 0; i < SMALL / PAGE; i++)
		fill_page(shared + i * WORDS, seed(103, i, 0));
	for (unsigned i = 1; i < processes; i++)
		if (fork() == 0)
			return run((size_t)atol(argv[1]), (unsigned)atoi(argv[2]));
	failed = (unsigned)run((size_t)atol(argv[1]), (unsigned)atoi(argv[2]));
	for (unsigned i = 1; i < processes; i++)
		failed += wait(&status) < 0 || status != 0;
	return failed ? 1 : 0;
}
