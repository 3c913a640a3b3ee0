/* kinds: memory that is handled in unusual ways, all of it verified again and again: guard pages, pages that are given
 * back and come back as zeros, a heap that grows and shrinks, shared memory without and with a file, memory that a
 * child does not get or gets as zeros; and children that are forked and verify what they inherit, or exec this program
 * again, at any moment. Runs until the file "stop" exists; prints "errors N" and exits with 0 if N is 0. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

#define PAGE  4096ul
#define WORDS (PAGE / 8)
#define PAGES 512ul /* of each area: 2 MiB, more than what is left to criu */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

static long errors;

static void wrong(const char *what, size_t where)
{
	if (errors++ < 20)
		fprintf(stderr, "pid %d: %s differs at %zu\n", getpid(), what, where);
}

static uint64_t seed(uint64_t area, uint64_t page, uint64_t generation)
{
	return mix(mix(mix(2, area), page), generation);
}

static void fill(uint64_t *area, uint64_t id, size_t page, uint64_t generation)
{
	uint64_t s = seed(id, page, generation);

	for (size_t i = 0; i < WORDS; i++)
		area[page * WORDS + i] = s + i * 0x9e3779b97f4a7c15ull;
}

static int holds(const uint64_t *area, uint64_t id, size_t page, uint64_t generation)
{
	uint64_t s = seed(id, page, generation);

	for (size_t i = 0; i < WORDS; i++)
		if (area[page * WORDS + i] != s + i * 0x9e3779b97f4a7c15ull)
			return 0;
	return 1;
}

static int is_zero(const uint64_t *area, size_t page)
{
	for (size_t i = 0; i < WORDS; i++)
		if (area[page * WORDS + i])
			return 0;
	return 1;
}

static uint64_t *map(int flags, int fd)
{
	void *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* ---- the areas -------------------------------------------------------------- */

enum { GUARDED, DROPPED, HEAP, SHARED, FILED, UNFORKED, WIPED, INHERITED, AREAS };

static uint64_t *area[AREAS];
static size_t heap_pages;

static int is_guard(size_t page)
{
	return page % 16 == 7;
}

static void make(void)
{
	int fd = open("shared.bin", O_RDWR | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)(PAGES * PAGE)))
		die("shared.bin");
	for (int a = 0; a < AREAS; a++)
		area[a] = a == HEAP     ? NULL
			  : a == SHARED ? map(MAP_SHARED | MAP_ANONYMOUS, -1)
			  : a == FILED  ? map(MAP_SHARED, fd)
					: map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	close(fd);
	for (int a = 0; a < AREAS; a++)
		for (size_t i = 0; a != HEAP && i < PAGES; i++)
			fill(area[a], (uint64_t)a, i, 0);
	for (size_t i = 0; i < PAGES; i++)
		if (is_guard(i) && (i % 32 != 7 || madvise(area[GUARDED] + i * WORDS, PAGE, MADV_GUARD_INSTALL)))
			mprotect(area[GUARDED] + i * WORDS, PAGE, PROT_NONE);
	madvise(area[UNFORKED], PAGES * PAGE, MADV_DONTFORK);
	madvise(area[WIPED], PAGES * PAGE, MADV_WIPEONFORK);
}

/* In between, some pages are of this generation and the rest of the one before: a snapshot that mixes two moments is
 * found. */
static void step(int a, uint64_t generation)
{
	for (size_t i = 0; i < PAGES; i++) {
		if (a == GUARDED && is_guard(i))
			continue;
		if (!holds(area[a], (uint64_t)a, i, generation))
			wrong("a rewritten page", (size_t)a * PAGES + i);
		fill(area[a], (uint64_t)a, i, generation + 1);
	}
}

/* Given back, zero, and filled again; the rest stays. */
static void drop(uint64_t round)
{
	size_t first = round * 64 % PAGES;

	if (madvise(area[DROPPED] + first * WORDS, 64 * PAGE, MADV_DONTNEED))
		die("madvise");
	usleep(2000);
	for (size_t i = 0; i < PAGES; i++)
		if (i >= first && i < first + 64 ? !is_zero(area[DROPPED], i) : !holds(area[DROPPED], DROPPED, i, 0))
			wrong("memory given back", i);
	for (size_t i = first; i < first + 64; i++)
		fill(area[DROPPED], DROPPED, i, 0);
}

static void breathe(uint64_t round)
{
	size_t want = 64 + round * 131 % PAGES;

	if (!area[HEAP])
		area[HEAP] = (uint64_t *)(((uintptr_t)sbrk(2 * PAGE) + PAGE) & ~(PAGE - 1));
	if (brk((void *)(area[HEAP] + want * WORDS)))
		die("brk");
	for (size_t i = 0; i < heap_pages && i < want; i++)
		if (!holds(area[HEAP], HEAP, i, 0))
			wrong("the heap", i);
	for (size_t i = heap_pages; i < want; i++)
		fill(area[HEAP], HEAP, i, 0);
	heap_pages = want;
}

/* ---- children ---------------------------------------------------------------- */

static int child(uint64_t generation)
{
	errors = 0;
	for (int n = 0; n < 10; n++) {
		for (size_t i = 0; i < PAGES; i++) {
			if (!is_zero(area[WIPED], i))
				wrong("memory that a child gets as zeros", i);
			if (!holds(area[INHERITED], INHERITED, i, generation + (uint64_t)n))
				wrong("inherited memory", i);
			fill(area[INHERITED], INHERITED, i, generation + (uint64_t)n + 1);
		}
		usleep(3000);
	}
	return errors != 0;
}

static void collect(pid_t *pid)
{
	int status = 0;

	if (*pid > 0 && waitpid(*pid, &status, 0) == *pid && status)
		wrong("a child's end", (size_t)status);
	*pid = 0;
}

/* What exec leaves: nothing. */
static int again(void)
{
	uint64_t *p = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);

	for (uint64_t g = 0; g < 10; g++) {
		for (size_t i = 0; i < PAGES; i++) {
			if (g ? !holds(p, 50, i, g) : !is_zero(p, i))
				wrong("memory after exec", i);
			fill(p, 50, i, g + 1);
		}
		usleep(3000);
	}
	return errors != 0;
}

int main(int argc, char **argv)
{
	static char *const args[] = { "kinds", "again", NULL };
	pid_t forked = 0, executed = 0;

	if (argc > 1 && !strcmp(argv[1], "again"))
		return again();
	make();
	printf("ready\n");
	fflush(stdout);
	for (uint64_t round = 0; access("stop", F_OK); round++) {
		step(GUARDED, round);
		step(SHARED, round);
		step(FILED, round);
		step(UNFORKED, round);
		drop(round);
		breathe(round);
		if (round % 8 == 0) {
			collect(&forked);
			forked = fork();
			if (forked == 0)
				return child(0);
			collect(&executed);
			executed = fork();
			if (executed == 0) {
				execv("/proc/self/exe", args);
				_exit(1);
			}
		}
		usleep(2000);
	}
	collect(&forked);
	collect(&executed);
	printf("errors %ld\n", errors);
	fflush(stdout);
	return errors != 0;
}
