#include "memory/node.h"

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

#include "common/util.h"

#define MB          1048576u
#define PROBE_BYTES (32u * MB)
#define PROBE_PAGES 512u            /* rewritten after a fork */
#define RUN_DIR     "/run/fsched"
#define KEPT        "node-memory"
#define HELD_BACK   (64ull * MB)    /* of a limit, besides a sixteenth */

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

static uint8_t *touched(size_t len)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, len, MADV_NOHUGEPAGE);
	memset(p, 1, len);
	return p;
}

static double time_copy(uint8_t *to, uint8_t *from)
{
	struct iovec local = { to, PROBE_BYTES }, remote = { from, PROBE_BYTES };
	int64_t start = cpu_us();
	ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	return got == (ssize_t)PROBE_BYTES ? elapsed_us(start) * MB / PROBE_BYTES : 0;
}

static void time_fork(struct mem_node *n, uint8_t *p)
{
	int64_t start = cpu_us();
	pid_t child = fork();

	if (child == 0)
		for (;;)
			pause();
	if (child < 0)
		return;
	n->fork_us_per_mb = elapsed_us(start) * MB / (2.0 * PROBE_BYTES);   /* both areas are there */
	start = cpu_us();
	for (size_t i = 0; i < PROBE_PAGES; i++)
		p[i * (PROBE_BYTES / PROBE_PAGES)] = 2;
	n->cow_us = elapsed_us(start) / PROBE_PAGES;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void measure(struct mem_node *n)
{
	uint8_t *a = touched(PROBE_BYTES), *b = touched(PROBE_BYTES);

	/* The first one finds pages that have never been read. */
	for (int i = 0; a && b && i < 4; i++) {
		double us = time_copy(a, b);

		if (us > 0 && (i == 0 || us < n->copy_us_per_mb))
			n->copy_us_per_mb = us;
	}
	if (a && b)
		time_fork(n, a);
	if (a)
		munmap(a, PROBE_BYTES);
	if (b)
		munmap(b, PROBE_BYTES);
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

void mem_node_probe(struct mem_node *n)
{
	cleanup_close int dir = open_run_dir();
	cleanup_free char *text = NULL;
	cleanup_free char *line = NULL;
	char id[64], kept[64];
	struct mem_node k;

	*n = (struct mem_node){ .copy_us_per_mb = 100, .fork_us_per_mb = 8, .huge_us_per_mb = 1, .cow_us = 1 };
	boot_id(id);
	if (dir >= 0 && read_file_at(dir, KEPT, 4096, &text) > 0 &&
	    sscanf(text, "%63s %lf %lf %lf %lf", kept, &k.copy_us_per_mb, &k.fork_us_per_mb, &k.huge_us_per_mb, &k.cow_us) == 5 &&
	    !strcmp(kept, id)) {
		*n = k;
		return;
	}
	measure(n);
	line = xasprintf("%s %.3f %.3f %.3f %.3f\n", id, n->copy_us_per_mb, n->fork_us_per_mb, n->huge_us_per_mb, n->cow_us);
	if (dir >= 0 && write_file_atomic(dir, KEPT, 0600, (gid_t)-1, line, strlen(line)))
		errno = 0; /* measured again next time */
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

uint64_t mem_cpu_ns(pid_t pid)
{
	cleanup_dir DIR *d = NULL;
	struct dirent *e;
	char path[64], name[300];
	uint64_t sum = 0, v;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		cleanup_free char *text = NULL;

		snprintf(name, sizeof(name), "%s/schedstat", e->d_name);
		if (e->d_name[0] != '.' && read_file_at(dirfd(d), name, 128, &text) > 0 && sscanf(text, "%" SCNu64, &v) == 1)
			sum += v;
	}
	return sum;
}

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
	u->cpu_ns = mem_cpu_ns(pid);
	return 0;
}
