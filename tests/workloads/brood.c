/* brood KIB CHILDREN OWN_KIB [busy]: a process fills KIB of memory, and CHILDREN are forked from it, which share all of
 * it but OWN_KIB that each rewrites for itself, at a place of its own. A last child is forked by the first one and
 * shares what that has rewritten. Every process verifies a part of the pages at a time, and goes on rewriting its own
 * ones, a generation per look. With "busy" the first process does so, too, at another place each time, within a quarter
 * of the memory: what it had in common with its children until then they have without it. WORKLOAD_STEP_US (10000)
 * times the number of processes is what it rests between two looks. Runs until the file "stop" exists, and verifies all
 * pages then; prints "ready" once per process, then "errors N", and exits with 0 if N is 0. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

#define PAGE  4096ul
#define WORDS (PAGE / 8)
#define EVERY 64

static uint64_t *memory;
static size_t pages, own; /* pages of all memory, and that a process rewrites */
static unsigned processes;
static useconds_t rest = 10000;

/* What a process has rewritten, and what it got from the one that forked it: generation 0 is that of the first. */
struct part {
	size_t first;
	uint64_t id, generation;
};

static uint64_t seed(const struct part *p, size_t n, size_t page)
{
	uint64_t s = mix(1, page);

	for (size_t i = 0; i < n; i++)
		if (page >= p[i].first && page < p[i].first + own && p[i].generation)
			s = mix(mix(mix(1, page), p[i].id), p[i].generation);
	return s;
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

/* Every so many pages, from the first on. */
static unsigned check(const struct part *p, size_t n, size_t first, size_t every)
{
	unsigned wrong = 0;

	for (size_t i = first; i < pages; i += every)
		wrong += !same_page(memory + i * WORDS, seed(p, n, i));
	return wrong;
}

static void rewrite(struct part *p)
{
	p->generation++;
	for (size_t i = p->first; i < p->first + own; i++)
		fill_page(memory + i * WORDS, seed(p, 1, i));
}

/* parts: of those before it, its own is the last. */
static int live(struct part *p, size_t n)
{
	unsigned wrong = 0;

	printf("ready\n");
	fflush(stdout);
	for (unsigned look = 0; access("stop", F_OK); look++) {
		wrong += check(p, n, look % EVERY, EVERY);
		rewrite(&p[n - 1]);
		usleep(rest * processes);
	}
	wrong += check(p, n, 0, 1);
	if (wrong)
		fprintf(stderr, "pid %d: %u pages differ\n", getpid(), wrong);
	return wrong != 0;
}

static size_t place(unsigned id)
{
	return pages > own ? id * own % (pages - own) : 0;
}

static int child(unsigned id)
{
	struct part p[2] = { { place(id), id, 0 }, { place(id + 1), id + 1, 0 } };
	int status, failed = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rewrite(&p[0]);
	if (id == 1 && fork() == 0)
		_exit(live(p, 2));
	failed = live(p, 1);
	if (id == 1)
		failed += wait(&status) < 0 || status != 0;
	_exit(failed);
}

/* The first process: no part is its own, or one after the other is. */
static unsigned lead(unsigned slices)
{
	struct part *p = calloc(slices + 1, sizeof(*p));
	unsigned failed = 0;

	printf("ready\n");
	fflush(stdout);
	for (unsigned i = 0; i < slices; i++)
		p[i] = (struct part){ i * own, 1000000 + i, 0 };
	for (unsigned look = 0; access("stop", F_OK); look++) {
		failed += check(p, slices, look % EVERY, EVERY) != 0;
		if (slices)
			rewrite(&p[look % slices]);
		usleep(rest * processes);
	}
	return failed + (check(p, slices, 0, 1) != 0);
}

int main(int argc, char **argv)
{
	struct part none = { 0 };
	int status, failed = 0;
	unsigned children;

	if (argc != 4 && (argc != 5 || strcmp(argv[4], "busy")))
		return 2;
	if (getenv("WORKLOAD_STEP_US"))
		rest = (useconds_t)atol(getenv("WORKLOAD_STEP_US"));
	pages = (size_t)atol(argv[1]) * 1024 / PAGE;
	children = (unsigned)atoi(argv[2]);
	own = (size_t)atol(argv[3]) * 1024 / PAGE;
	processes = children + 2;
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < pages; i++)
		fill_page(memory + i * WORDS, seed(&none, 1, i));
	for (unsigned id = 1; id <= children; id++)
		if (fork() == 0)
			child(id);
	failed = (int)lead(argc == 5 ? (unsigned)(pages / 4 / own) : 0);
	for (unsigned i = 0; i < children; i++)
		failed += wait(&status) < 0 || status != 0;
	printf("errors %d\n", failed);
	return failed ? 1 : 0;
}
