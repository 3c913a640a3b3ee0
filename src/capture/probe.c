#include "capture/probe.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/util.h"
#include "base/io.h"
#include "image/image.h"
#include "capture/pagemap.h"
#include "capture/uffd.h"

#define MB            1048576u
#define HUGE_PAGE     (2u * MB)
#define PROBE_BYTES   (32u * MB) /* of small pages; as much again to copy from */
#define PROBE_HUGE    (16u * MB)
#define PROBE_PAGES   512u       /* rewritten after a fork */
#define FORKS         5          /* measurements, of which the fastest counts */
#define REWRITES      3          /* likewise; the result is kept until the next boot */
#define DRAIN_GUESS   400.0      /* MiB/s */
#define COMPARE_GUESS 200.0      /* us/MiB */
#define DRAIN_MIN     (64u * MB) /* less is too little to measure the disk */
#define RUN_DIR       "/run/fsched"
#define COSTS_FILE    "node-memory"
#define DRAIN_FILE    "node-drain"
#define COMPARE_FILE  "node-compare"

/* ---- the probe ------------------------------------------------------------ */

/* Processor time of this thread, kernel time included: unlike wall time it does not depend on the load. */
static int64_t probe_cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static double probe_elapsed_us(int64_t since)
{
	int64_t us = probe_cpu_us() - since;

	return us > 0 ? (double)us : 1;
}

static void probe_end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Maps and faults in len bytes, aligned to HUGE_PAGE. advice: of madvise(). NULL if there is no memory. */
static uint8_t *probe_map_touched(size_t len, int advice)
{
	uint8_t *p = mmap(NULL, len + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *start;

	if (p == MAP_FAILED)
		return NULL;
	start = p + (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
	if (start > p)
		munmap(p, (size_t)(start - p));
	if (start < p + HUGE_PAGE)
		munmap(start + len, (size_t)(p + HUGE_PAGE - start));
	madvise(start, len, advice);
	memset(start, 1, len);
	return start;
}

static double probe_time_copy(uint8_t *to, uint8_t *from)
{
	struct iovec local = { to, PROBE_BYTES }, remote = { from, PROBE_BYTES };
	int64_t start = probe_cpu_us();
	ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	return got == (ssize_t)PROBE_BYTES ? probe_elapsed_us(start) * MB / PROBE_BYTES : 0;
}

/* The time that fork() takes in microseconds; 0 if it fails. If child is not NULL, the caller ends the child. */
static double probe_time_fork(pid_t *child)
{
	const pid_t parent = getpid();
	int64_t start = probe_cpu_us();
	pid_t pid = fork();
	double us = probe_elapsed_us(start);

	if (pid == 0) {
		/* A worker that is killed now must not leave it: it would stay for ever, and have all that the worker
		 * has open. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	if (pid < 0)
		return 0;
	if (child)
		*child = pid;
	else
		probe_end_child(pid);
	return us;
}

/* The smaller of two measurements; 0 stands for no measurement. */
static double probe_faster(double us, double best)
{
	return us > 0 && (best <= 0 || us < best) ? us : best;
}

static double probe_fastest_fork(void)
{
	double best = 0;

	for (int i = 0; i < FORKS; i++)
		best = probe_faster(probe_time_fork(NULL), best);
	return best;
}

/* Microseconds per write to PROBE_PAGES pages of p after a fork, run neighbours at a time. 0 if fork() fails. */
static double probe_time_rewriting(uint8_t *p, size_t len, unsigned run)
{
	const size_t step = len / (PROBE_PAGES / run);
	pid_t child = 0;
	int64_t start;
	double us;

	if (probe_time_fork(&child) <= 0)
		return 0;
	start = probe_cpu_us();
	for (size_t at = 0; at < len; at += step)
		for (size_t i = 0; i < run; i++)
			((volatile uint8_t *)p)[at + i * MEM_PAGE] = 2;
	us = probe_elapsed_us(start) / PROBE_PAGES;
	probe_end_child(child);
	return us;
}

static double probe_fastest_rewriting(uint8_t *p, size_t len)
{
	double best = 0;

	for (int i = 0; i < REWRITES; i++)
		best = probe_faster(probe_time_rewriting(p, len, 1), best);
	return best;
}

/* The same for tracked writes (capture/track.h). 0 if this kernel cannot track writes. */
static double probe_time_tracked_writes(uint8_t *p, size_t len)
{
	const uint64_t start = (uintptr_t)p, step = len / PROBE_PAGES;
	cleanup_close int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	cleanup_close int fd = uffd_open_own();
	struct mem_ranges seen = { 0 };
	double us = 0;

	if (pagemap >= 0 && fd >= 0 && !uffd_register(fd, start, start + len) &&
	    !mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, 1, start, start + len, &seen)) {
		int64_t from = probe_cpu_us();

		for (uint64_t at = 0; at < len; at += step)
			((volatile uint8_t *)p)[at] = 2;
		us = probe_elapsed_us(from) / PROBE_PAGES;
	}
	mem_ranges_free(&seen);
	return us;
}

static void probe_set(double *to, double measured)
{
	if (measured > 0)
		*to = measured;
}

/* Microseconds of fork() per MiB. base: the time of a fork without the memory in question, which has so many bytes. */
static double probe_fork_per_mb(double base, double bytes)
{
	double us = probe_fastest_fork();

	return us <= 0 ? 0 : us > base ? (us - base) * MB / bytes : 0.01;
}

static void probe_small_pages(struct mem_node *n, double base)
{
	uint8_t *a = probe_map_touched(PROBE_BYTES, MADV_NOHUGEPAGE),
		*b = probe_map_touched(PROBE_BYTES, MADV_NOHUGEPAGE);
	double best = 0, notice = 0;

	/* The first copy is slower: the pages have never been read. */
	for (int i = 0; a && b && i < 6; i++)
		best = probe_faster(probe_time_copy(a, b), best);
	probe_set(&n->copy_us_per_mb, best);
	if (a && b) {
		probe_set(&n->fork_us_per_mb, probe_fork_per_mb(base, 2.0 * PROBE_BYTES));
		probe_set(&n->cow_us, probe_fastest_rewriting(a, PROBE_BYTES));
		for (int i = 0; i < REWRITES; i++)
			notice = probe_faster(probe_time_tracked_writes(a, PROBE_BYTES), notice);
		probe_set(&n->notice_us, notice);
	}
	if (a)
		munmap(a, PROBE_BYTES);
	if (b)
		munmap(b, PROBE_BYTES);
}

/* Needs the result of probe_small_pages(). If the kernel gives us no huge pages, jobs have none either. */
static void probe_huge_pages(struct mem_node *n, double base)
{
	uint8_t *p = probe_map_touched(PROBE_HUGE, MADV_HUGEPAGE);

	if (!p)
		return;
	probe_set(&n->huge_us_per_mb, probe_fork_per_mb(base, PROBE_HUGE));
	/* The time is so short that on a busy machine it is mostly noise: limit it. */
	if (n->huge_us_per_mb > n->fork_us_per_mb / 8)
		n->huge_us_per_mb = n->fork_us_per_mb / 8;
	/* Measured once: afterwards the huge pages are split. */
	probe_set(&n->huge_cow_us, probe_time_rewriting(p, PROBE_HUGE, PROBE_PAGES / (PROBE_HUGE / HUGE_PAGE)));
	munmap(p, PROBE_HUGE);
}

static void probe_measure(struct mem_node *n)
{
	double base = probe_fastest_fork();

	probe_small_pages(n, base);
	probe_huge_pages(n, base);
}

/* A descriptor of RUN_DIR, or -1 if others than root may write to it. */
static int probe_open_run_dir(void)
{
	int fd;
	struct stat st;

	if (mkdir(RUN_DIR, 0700) && errno != EEXIST)
		return -1;
	fd = open(RUN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &st) || st.st_uid != geteuid() || st.st_mode & 022)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The id of this boot: /run may contain files of an earlier boot. Empty if it cannot be read. */
static void probe_boot_id(char id[64])
{
	cleanup_free char *text = NULL;

	id[0] = '\0';
	if (read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text) > 0)
		sscanf(text, "%63s", id);
}

/* Reads n positive numbers from a file of RUN_DIR, which begins with a boot id. False if there are none of this boot.
 */
static bool probe_load(int dir, const char *name, const char *id, double *v, size_t n)
{
	cleanup_free char *text = NULL;
	const size_t len = strlen(id);
	char *p;

	if (dir < 0 || read_file_at(dir, name, 4096, &text) <= 0 || strncmp(text, id, len) ||
	    !isspace((unsigned char)text[len]))
		return false;
	p = text + len;
	for (size_t i = 0; i < n; i++) {
		char *end;

		v[i] = strtod(p, &end);
		if (end == p || !(v[i] > 0) || v[i] > 1e9)
			return false;
		p = end;
	}
	return true;
}

static void probe_save(int dir, const char *name, const char *id, const double *v, size_t n)
{
	cleanup_free char *line = xstrdup(id);

	for (size_t i = 0; i < n; i++) {
		char *longer = xasprintf("%s %.4f", line, v[i]);

		free(line);
		line = longer;
	}
	if (dir >= 0 && write_file_atomic(dir, name, 0600, (gid_t)-1, line, strlen(line)))
		errno = 0; /* not kept: the next call measures again */
}

void mem_probe_node(struct mem_node *n)
{
	cleanup_close int dir = probe_open_run_dir();
	double v[6];
	char id[64];

	*n = (struct mem_node){ .copy_us_per_mb = 100,
				.fork_us_per_mb = 8,
				.huge_us_per_mb = 1,
				.cow_us = 1,
				.huge_cow_us = 1,
				.notice_us = 1,
				.drain_mb_per_s = DRAIN_GUESS,
				.compare_us_per_mb = COMPARE_GUESS };
	probe_boot_id(id);
	if (probe_load(dir, COSTS_FILE, id, v, ARRAY_SIZE(v))) {
		n->copy_us_per_mb = v[0];
		n->fork_us_per_mb = v[1];
		n->huge_us_per_mb = v[2];
		n->cow_us = v[3];
		n->huge_cow_us = v[4];
		n->notice_us = v[5];
	} else {
		probe_measure(n);
		probe_save(dir, COSTS_FILE, id,
			   (const double[]){ n->copy_us_per_mb, n->fork_us_per_mb, n->huge_us_per_mb, n->cow_us,
					     n->huge_cow_us, n->notice_us },
			   ARRAY_SIZE(v));
	}
	if (probe_load(dir, DRAIN_FILE, id, v, 1))
		n->drain_mb_per_s = v[0];
	if (probe_load(dir, COMPARE_FILE, id, v, 1))
		n->compare_us_per_mb = v[0];
}

/* Keeps the mean of v and of the number that was kept before. */
static void probe_save_mean(const char *name, double v)
{
	cleanup_close int dir = probe_open_run_dir();
	double before;
	char id[64];

	probe_boot_id(id);
	if (probe_load(dir, name, id, &before, 1))
		v = (v + before) / 2;
	probe_save(dir, name, id, &v, 1);
}

void mem_probe_note_drain(uint64_t bytes, uint64_t us)
{
	if (bytes >= DRAIN_MIN && us)
		probe_save_mean(DRAIN_FILE, (double)bytes / MB * 1e6 / (double)us);
}

void mem_probe_note_compare(uint64_t bytes, uint64_t changed, uint64_t us)
{
	/* With more changed pages, most of the time is compression. */
	if (bytes >= DRAIN_MIN && us && changed < bytes / 8)
		probe_save_mean(COMPARE_FILE, (double)us * MB / (double)bytes);
}
