#include "memory/shared_scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/util.h"

#define MAPS_MAX (256u << 20)
#define MEMFD    "/memfd:"
#define SYSV     "/SYSV"

struct scan {
	dev_t dev;              /* of the kernel's own tmpfs, where all these objects are and nothing else */
	int   flags;
	shared_found_fn *fn;
	void *arg;
	uint64_t *seen;         /* inodes, ascending */
	size_t n, room;
};

static bool find_device(dev_t *dev)
{
	cleanup_close int fd = memfd_create("", MFD_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return false;
	*dev = st.st_dev;
	return true;
}

/* True the first time. */
static bool see(struct scan *s, uint64_t ino)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (s->seen[mid] < ino)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < s->n && s->seen[low] == ino)
		return false;
	if (s->n == s->room)
		s->seen = xrealloc(s->seen, (s->room = s->room ? 2 * s->room : 64) * sizeof(*s->seen));
	memmove(&s->seen[low + 1], &s->seen[low], (s->n - low) * sizeof(*s->seen));
	s->seen[low] = ino;
	s->n++;
	return true;
}

/* path: a link of /proc, which leads to the object itself. The process may have changed meanwhile: only what is open counts. */
static void open_object(struct scan *s, const char *path)
{
	int fd = open(path, s->flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) || st.st_dev != s->dev || !S_ISREG(st.st_mode) || !see(s, st.st_ino) || !s->fn(s->arg, fd, &st))
		close(fd);
}

static bool was_seen(const struct scan *s, uint64_t ino)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (s->seen[mid] == ino)
			return true;
		if (s->seen[mid] < ino)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static void scan_line(struct scan *s, pid_t pid, const char *line)
{
	unsigned maj, min;
	uint64_t start, end, ino;
	char path[96];
	int name = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*x %x:%x %" SCNu64 " %n", &start, &end, &maj, &min, &ino, &name) != 5 || !name)
		return;
	if (makedev(maj, min) != s->dev || !strncmp(line + name, SYSV, strlen(SYSV)) || was_seen(s, ino))
		return;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, start, end);
	open_object(s, path);
}

static void scan_maps(struct scan *s, pid_t pid)
{
	cleanup_free char *text = NULL;
	char path[64], *line, *next;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	if (read_file_at(AT_FDCWD, path, MAPS_MAX, &text) < 0)
		return;
	for (line = text; *line; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = '\0';
		scan_line(s, pid, line);
	}
}

static void scan_fds(struct scan *s, pid_t pid)
{
	cleanup_dir DIR *d = NULL;
	char path[64], link[sizeof(MEMFD)], whole[330];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (readlinkat(dirfd(d), e->d_name, link, strlen(MEMFD)) != (ssize_t)strlen(MEMFD) || memcmp(link, MEMFD, strlen(MEMFD)))
			continue;
		snprintf(whole, sizeof(whole), "%s/%s", path, e->d_name);
		open_object(s, whole);
	}
}

void shared_scan(const pid_t *pids, int n, int flags, shared_found_fn *fn, void *arg)
{
	struct scan s = { .flags = flags, .fn = fn, .arg = arg };

	if (!find_device(&s.dev))
		return;
	for (int i = 0; i < n; i++) {
		scan_maps(&s, pids[i]);
		scan_fds(&s, pids[i]);
	}
	free(s.seen);
}
