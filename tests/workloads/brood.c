/* brood KIB CHILDREN OWN_KIB: a process fills KIB of memory, and CHILDREN are forked from it, which share all of it but OWN_KIB that each
 * rewrites for itself, at a place of its own. A last child is forked by the first one and shares what that has rewritten. Every process verifies all
 * pages again and again, and goes on rewriting its own ones, a generation per look. WORKLOAD_STEP_US (100000) is what it rests between two looks
 * times the number of processes. Runs until the file "stop" exists; prints "ready" once per process, then "errors N", and exits with 0 if N is 0. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

#define PAGE  4096ul
#define WORDS (PAGE / 8)

static uint64_t *memory;
static size_t pages, own;     /* pages of all memory, and that a process rewrites */
static unsigned processes;
static useconds_t rest = 100000;

/* What a process has rewritten, and what it got from the one that forked it: generation 0 is that of the first. */
struct part { size_t first; uint64_t id, generation; };

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

static unsigned check(const struct part *p, size_t n)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < pages; i++)
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
	while (access("stop", F_OK)) {
		wrong += check(p, n);
		rewrite(&p[n - 1]);
		usleep(rest * processes);
	}
	wrong += check(p, n);
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

int main(int argc, char **argv)
{
	struct part none = { 0 };
	int status, failed = 0;
	unsigned children;

	if (argc != 4)
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
	printf("ready\n");
	fflush(stdout);
	while (access("stop", F_OK)) {
		failed += check(&none, 1) != 0;
		usleep(rest * processes);
	}
	for (unsigned i = 0; i < children; i++)
		failed += wait(&status) < 0 || status != 0;
	printf("errors %d\n", failed);
	return failed ? 1 : 0;
}
