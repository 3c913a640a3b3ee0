/* Shared memory that verifies itself: shared SHAPE MIB [CHILDREN]
 *
 * SHAPE: anon    anonymous MAP_SHARED memory, also mapped by the children
 *        memfd   a memfd that is mapped, the children have it by descriptor only
 *        fd      a memfd that nobody maps
 *        shm     a named file in /dev/shm
 *        deleted one that has lost its name, the children have it by descriptor only; a part of a page lies behind what
 * is mapped sparse  anonymous memory of which every 16th MiB holds data, and which ends with a part that is not mapped
 * any more sealed  a memfd that is sealed against writing
 *
 * All take turns at generations: a page holds its number, the generation, and a pattern of both. Every fourth page
 * changes with each generation, the others keep the first. Ends when the file "stop" is there; prints "errors N". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define MIB  (1024 * 1024)

static size_t size, mapped;
static int fd = -1;
static uint8_t *map;
static int sparse, sealed, deleted;
static const char tail[100] = "behind the last whole page";

/* What turns are taken by: in memory of its own, which is small. */
static struct {
	volatile uint64_t generation, errors;
	volatile int ready;
} * state;

static int has_data(size_t page)
{
	return !sparse || (page * PAGE / MIB) % 16 == 0;
}

static void make_page(uint64_t *p, uint64_t page, uint64_t generation)
{
	uint64_t x = page * 0x9e3779b97f4a7c15u + generation;

	p[0] = page;
	p[1] = generation;
	for (size_t i = 2; i < PAGE / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = i % 4 ? x & 0xffff : x;
	}
}

static uint64_t of_page(size_t page, uint64_t generation)
{
	return page % 4 || sealed ? 1 : generation;
}

static void put(size_t page, const void *buf)
{
	if (map)
		memcpy(map + page * PAGE, buf, PAGE);
	else if (pwrite(fd, buf, PAGE, (off_t)(page * PAGE)) != PAGE)
		abort();
}

static void get(size_t page, void *buf)
{
	if (map)
		memcpy(buf, map + page * PAGE, PAGE);
	else if (pread(fd, buf, PAGE, (off_t)(page * PAGE)) != PAGE)
		abort();
}

static void write_generation(uint64_t generation)
{
	uint64_t buf[PAGE / 8];

	for (size_t page = 0; page < mapped / PAGE; page++)
		if (has_data(page) && (generation == 1 || of_page(page, generation) == generation)) {
			make_page(buf, page, of_page(page, generation));
			put(page, buf);
		}
}

static void check_generation(uint64_t generation)
{
	uint64_t got[PAGE / 8], want[PAGE / 8];

	for (size_t page = 0; page < mapped / PAGE; page++) {
		if (!has_data(page))
			continue;
		get(page, got);
		make_page(want, page, of_page(page, generation));
		if (memcmp(got, want, PAGE))
			state->errors++;
	}
}

/* At the end only: looking makes pages of them. */
static void check_holes(void)
{
	static const uint64_t zeros[PAGE / 8];
	uint64_t got[PAGE / 8];

	for (size_t page = 0; page < mapped / PAGE; page++) {
		if (has_data(page))
			continue;
		get(page, got);
		if (memcmp(got, zeros, PAGE))
			state->errors++;
	}
}

static void *share(int descriptor)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, descriptor < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED,
		       descriptor, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static void set_up(const char *shape)
{
	sparse = !strcmp(shape, "sparse");
	sealed = !strcmp(shape, "sealed");
	deleted = !strcmp(shape, "deleted");
	if (!strcmp(shape, "anon") || sparse) {
		map = share(-1);
	} else if (!strcmp(shape, "shm") || deleted) {
		fd = open("/dev/shm/segment", O_RDWR | O_CREAT | O_EXCL, 0600);
	} else {
		fd = memfd_create("segment", MFD_ALLOW_SEALING);
	}
	if (!map && (fd < 0 || ftruncate(fd, (off_t)size)))
		abort();
	if (!map && strcmp(shape, "fd") && !sealed)
		map = share(fd);
	write_generation(1);
	if (deleted && (unlink("/dev/shm/segment") || pwrite(fd, tail, sizeof(tail), (off_t)size) != sizeof(tail)))
		abort();
	if (sealed && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW))
		abort();
	if (sparse && munmap(map + mapped, size - mapped))
		abort();
}

static void child(const char *shape)
{
	if (!strcmp(shape, "memfd") || deleted) {
		munmap(map, size);
		map = NULL;
	}
	state->ready++;
	for (;;) {
		uint64_t generation = state->generation;

		if (generation % 2 == 0 && generation) {
			check_generation(generation - 1);
			state->generation = generation + 1;
		}
		usleep(5000);
	}
}

int main(int argc, char **argv)
{
	char buf[2 * sizeof(tail)];
	int children = argc > 3 ? atoi(argv[3]) : 0;
	pid_t pid = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mapped = size = (size_t)atol(argv[2]) * MIB;
	if (!strcmp(argv[1], "sparse"))
		mapped -= 3 * MIB + PAGE;
	state = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	set_up(argv[1]);
	state->generation = 1;
	if (children && (pid = fork()) == 0)
		child(argv[1]);
	while (state->ready < (children ? 1 : 0))
		usleep(1000);
	printf("ready\n");
	/* Odd generations are written by the parent; the even number after one lets the child check it. */
	while (access("stop", F_OK)) {
		uint64_t generation = state->generation;

		if (generation % 2 == 1) {
			check_generation(generation > 1 ? generation - 2 : 1);
			if (!sealed)
				write_generation(generation);
			if (!children)
				check_generation(generation);
			state->generation = children ? generation + 1 : generation + 2;
		}
		usleep(20000);
	}
	if (pid > 0) {
		kill(pid, 9);
		waitpid(pid, NULL, 0);
	}
	check_holes();
	if (deleted && (pread(fd, buf, sizeof(buf), (off_t)size) != sizeof(tail) || memcmp(buf, tail, sizeof(tail))))
		state->errors++;
	printf("errors %llu\n", (unsigned long long)state->errors);
	return state->errors != 0;
}
