#include "capture/node.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/io.h"
#include "base/util.h"
#include "image/image.h"
#include "capture/pagemap.h"
#include "capture/uffd.h"

#define MB            1048576u
#define HUGE_PAGE     (2u * MB)
#define PROBE_BYTES   (32u * MB) /* small pages, and as much again to copy from */
#define PROBE_HUGE    (16u * MB)
#define PROBE_PAGES   512u       /* rewritten after a fork */
#define FORKS         5          /* the fastest counts */
#define REWRITES      3          /* likewise: what is measured stays until the next boot */
#define DRAIN_GUESS   400.0      /* MiB/s */
#define COMPARE_GUESS 200.0      /* us/MiB */
#define DRAIN_MIN     (64u * MB) /* bytes that tell how fast the disk is */
#define RUN_DIR       "/run/fsched"
#define KEPT          "node-memory"
#define KEPT_DRAIN    "node-drain"
#define KEPT_COMPARE  "node-compare"
#define HELD_BACK     (64ull * MB) /* of a limit, besides a sixteenth */

/* ---- the probe ------------------------------------------------------------ */

/* Processor time of this thread, kernel included: the machine does other things too. */
static int64_t cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static double elapsed_us(int64_t since)
{
	int64_t us = cpu_us() - since;

	return us > 0 ? (double)us : 1;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* len bytes that begin at a multiple of HUGE_PAGE, in a mapping of its own that is longer by one; NULL if there are
 * none. */
static uint8_t *touched(size_t len, int advice)
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

static double time_copy(uint8_t *to, uint8_t *from)
{
	struct iovec local = { to, PROBE_BYTES }, remote = { from, PROBE_BYTES };
	int64_t start = cpu_us();
	ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	return got == (ssize_t)PROBE_BYTES ? elapsed_us(start) * MB / PROBE_BYTES : 0;
}

/* The time that fork() takes; 0 if it fails. child may be NULL, else it is the caller's to end. */
static double time_fork(pid_t *child)
{
	int64_t start = cpu_us();
	pid_t pid = fork();
	double us = elapsed_us(start);

	if (pid == 0)
		for (;;)
			pause();
	if (pid < 0)
		return 0;
	if (child)
		*child = pid;
	else
		end_child(pid);
	return us;
}

/* 0 is no measurement. */
static double faster(double us, double best)
{
	return us > 0 && (best <= 0 || us < best) ? us : best;
}

static double fastest_fork(void)
{
	double best = 0;

	for (int i = 0; i < FORKS; i++)
		best = faster(time_fork(NULL), best);
	return best;
}

/* Microseconds per write, of PROBE_PAGES in p, run next to each other at a time, after a fork. 0: no fork. */
static double time_rewriting(uint8_t *p, size_t len, unsigned run)
{
	const size_t step = len / (PROBE_PAGES / run);
	pid_t child = 0;
	int64_t start;
	double us;

	if (time_fork(&child) <= 0)
		return 0;
	start = cpu_us();
	for (size_t at = 0; at < len; at += step)
		for (size_t i = 0; i < run; i++)
			((volatile uint8_t *)p)[at + i * MEM_PAGE] = 2;
	us = elapsed_us(start) / PROBE_PAGES;
	end_child(child);
	return us;
}

static double fastest_rewriting(uint8_t *p, size_t len)
{
	double best = 0;

	for (int i = 0; i < REWRITES; i++)
		best = faster(time_rewriting(p, len, 1), best);
	return best;
}

/* The same, of writes that are noticed (capture/track.h). 0: this kernel cannot do it. */
static double time_noticing(uint8_t *p, size_t len)
{
	const uint64_t start = (uintptr_t)p, step = len / PROBE_PAGES;
	cleanup_close int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	cleanup_close int fd = uffd_open_own();
	struct mem_ranges seen = { 0 };
	double us = 0;

	if (pagemap >= 0 && fd >= 0 && !uffd_register(fd, start, start + len) &&
	    !mem_pagemap_collect(pagemap, MEM_PAGES_PROTECT, 1, start, start + len, &seen)) {
		int64_t from = cpu_us();

		for (uint64_t at = 0; at < len; at += step)
			((volatile uint8_t *)p)[at] = 2;
		us = elapsed_us(from) / PROBE_PAGES;
	}
	mem_ranges_free(&seen);
	return us;
}

static void set(double *to, double measured)
{
	if (measured > 0)
		*to = measured;
}

/* base: of a fork without the memory in question. */
static double per_mb(double base, double bytes)
{
	double us = fastest_fork();

	return us <= 0 ? 0 : us > base ? (us - base) * MB / bytes : 0.01;
}

static void measure_small(struct mem_node *n, double base)
{
	uint8_t *a = touched(PROBE_BYTES, MADV_NOHUGEPAGE), *b = touched(PROBE_BYTES, MADV_NOHUGEPAGE);
	double best = 0, notice = 0;

	/* The first one finds pages that have never been read. */
	for (int i = 0; a && b && i < 6; i++)
		best = faster(time_copy(a, b), best);
	set(&n->copy_us_per_mb, best);
	if (a && b) {
		set(&n->fork_us_per_mb, per_mb(base, 2.0 * PROBE_BYTES));
		set(&n->cow_us, fastest_rewriting(a, PROBE_BYTES));
		for (int i = 0; i < REWRITES; i++)
			notice = faster(time_noticing(a, PROBE_BYTES), notice);
		set(&n->notice_us, notice);
	}
	if (a)
		munmap(a, PROBE_BYTES);
	if (b)
		munmap(b, PROBE_BYTES);
}

/* After measure_small(). Where the kernel gives no huge pages no job has any. */
static void measure_huge(struct mem_node *n, double base)
{
	uint8_t *p = touched(PROBE_HUGE, MADV_HUGEPAGE);

	if (!p)
		return;
	set(&n->huge_us_per_mb, per_mb(base, PROBE_HUGE));
	/* So little that on a busy machine it is mostly noise. */
	if (n->huge_us_per_mb > n->fork_us_per_mb / 8)
		n->huge_us_per_mb = n->fork_us_per_mb / 8;
	/* Once: afterwards the huge pages are split. */
	set(&n->huge_cow_us, time_rewriting(p, PROBE_HUGE, PROBE_PAGES / (PROBE_HUGE / HUGE_PAGE)));
	munmap(p, PROBE_HUGE);
}

static void measure(struct mem_node *n)
{
	double base = fastest_fork();

	measure_small(n, base);
	measure_huge(n, base);
}

/* Root's own directory, or -1. */
static int open_run_dir(void)
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

/* /run need not be empty after a boot. */
static void boot_id(char id[64])
{
	cleanup_free char *text = NULL;

	id[0] = '\0';
	if (read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text) > 0)
		sscanf(text, "%63s", id);
}

/* What is kept in a file of RUN_DIR: this boot's id and numbers. false: there are none of this boot. */
static bool kept_load(int dir, const char *name, const char *id, double *v, size_t n)
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

static void kept_save(int dir, const char *name, const char *id, const double *v, size_t n)
{
	cleanup_free char *line = xstrdup(id);

	for (size_t i = 0; i < n; i++) {
		char *longer = xasprintf("%s %.4f", line, v[i]);

		free(line);
		line = longer;
	}
	if (dir >= 0 && write_file_atomic(dir, name, 0600, (gid_t)-1, line, strlen(line)))
		errno = 0; /* measured again next time */
}

void mem_node_probe(struct mem_node *n)
{
	cleanup_close int dir = open_run_dir();
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
	boot_id(id);
	if (kept_load(dir, KEPT, id, v, ARRAY_SIZE(v))) {
		n->copy_us_per_mb = v[0];
		n->fork_us_per_mb = v[1];
		n->huge_us_per_mb = v[2];
		n->cow_us = v[3];
		n->huge_cow_us = v[4];
		n->notice_us = v[5];
	} else {
		measure(n);
		kept_save(dir, KEPT, id,
			  (const double[]){ n->copy_us_per_mb, n->fork_us_per_mb, n->huge_us_per_mb, n->cow_us,
					    n->huge_cow_us, n->notice_us },
			  ARRAY_SIZE(v));
	}
	if (kept_load(dir, KEPT_DRAIN, id, v, 1))
		n->drain_mb_per_s = v[0];
	if (kept_load(dir, KEPT_COMPARE, id, v, 1))
		n->compare_us_per_mb = v[0];
}

/* The mean with what was kept before. */
static void keep_mean(const char *name, double v)
{
	cleanup_close int dir = open_run_dir();
	double before;
	char id[64];

	boot_id(id);
	if (kept_load(dir, name, id, &before, 1))
		v = (v + before) / 2;
	kept_save(dir, name, id, &v, 1);
}

void mem_node_drained(uint64_t bytes, uint64_t us)
{
	if (bytes >= DRAIN_MIN && us)
		keep_mean(KEPT_DRAIN, (double)bytes / MB * 1e6 / (double)us);
}

void mem_node_compared(uint64_t bytes, uint64_t changed, uint64_t us)
{
	/* Else it tells of compression. */
	if (bytes >= DRAIN_MIN && us && changed < bytes / 8)
		keep_mean(KEPT_COMPARE, (double)us * MB / (double)bytes);
}

/* ---- room to grow ---------------------------------------------------------- */

static uint64_t number_in(const char *dir, const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_free char *text = NULL;
	uint64_t v;

	if (read_file_at(AT_FDCWD, path, 256, &text) <= 0 || sscanf(text, "%" SCNu64, &v) != 1)
		return UINT64_MAX; /* "max", or no such file */
	return v;
}

/* The value behind a word at the start of a line. */
static uint64_t value_of(const char *text, const char *word)
{
	size_t len = strlen(word);
	uint64_t v;

	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		if (!strncmp(p, word, len) && sscanf(p + len, " %" SCNu64, &v) == 1)
			return v;
	return 0;
}

static uint64_t reclaimable(const char *dir, bool v2)
{
	cleanup_free char *path = xasprintf("%s/memory.stat", dir);
	cleanup_free char *text = NULL;

	if (read_file_at(AT_FDCWD, path, 65536, &text) <= 0)
		return 0;
	return value_of(text, v2 ? "inactive_file" : "total_inactive_file");
}

static uint64_t left_in(const char *dir, bool v2)
{
	uint64_t limit = number_in(dir, v2 ? "memory.max" : "memory.limit_in_bytes");
	uint64_t used = number_in(dir, v2 ? "memory.current" : "memory.usage_in_bytes"), cache;

	/* v1 says "no limit" by a number near 2^63. */
	if (limit >= 1ull << 62)
		return UINT64_MAX;
	if (used == UINT64_MAX)
		return 0;
	cache = reclaimable(dir, v2);
	used -= cache < used ? cache : used;
	return limit > used ? limit - used : 0;
}

/* From the cgroup itself up to the root of the hierarchy. */
static uint64_t left_in_all(const char *mount, const char *cgroup, bool v2)
{
	cleanup_free char *dir = xasprintf("%s%s", mount, cgroup);
	uint64_t least = UINT64_MAX, left;
	char *slash;

	while (strlen(dir) > strlen(mount)) {
		left = left_in(dir, v2);
		least = left < least ? left : least;
		slash = strrchr(dir, '/');
		*slash = '\0';
	}
	return least;
}

static bool is_memory_controller(const char *list)
{
	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == 6 && !strncmp(p, "memory", 6))
			return true;
	return false;
}

static uint64_t cgroup_left(pid_t pid)
{
	cleanup_free char *text = NULL;
	char path[64], *line, *save = NULL;
	uint64_t least = UINT64_MAX, left;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &text) <= 0)
		return 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *cgroup = list ? strchr(list + 1, ':') : NULL;

		if (!cgroup)
			continue;
		*cgroup++ = '\0';
		list++;
		if (!*list) {
			left = left_in_all("/sys/fs/cgroup", cgroup, true);
			least = left < least ? left : least;
			left = left_in_all("/sys/fs/cgroup/unified", cgroup, true);
		} else if (is_memory_controller(list)) {
			left = left_in_all("/sys/fs/cgroup/memory", cgroup, false);
		} else {
			continue;
		}
		least = left < least ? left : least;
	}
	return least;
}

static uint64_t machine_left(void)
{
	cleanup_free char *text = NULL;

	if (read_file_at(AT_FDCWD, "/proc/meminfo", 65536, &text) <= 0)
		return 0;
	return value_of(text, "MemAvailable:") * 1024;
}

uint64_t mem_headroom(pid_t pid)
{
	uint64_t machine = machine_left(), cgroup = cgroup_left(pid), left = machine < cgroup ? machine : cgroup;
	uint64_t back = left / 16 + HELD_BACK;

	return left > back ? left - back : 0;
}

/* ---- of a process ------------------------------------------------------------ */

int mem_usage_read(pid_t pid, struct mem_usage *u)
{
	cleanup_free char *text = NULL;
	uint64_t pss;
	char path[64];

	*u = (struct mem_usage){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	if (read_file_at(AT_FDCWD, path, 65536, &text) <= 0)
		return -1;
	u->anon = value_of(text, "Anonymous:") * 1024;
	u->huge = value_of(text, "AnonHugePages:") * 1024;
	pss = value_of(text, "Pss_Anon:") * 1024;
	u->shared = u->anon > pss ? u->anon - pss : 0;
	return 0;
}
