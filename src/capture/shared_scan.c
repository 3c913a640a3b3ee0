#include "capture/shared_scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/array.h"
#include "base/io.h"
#include "base/util.h"

#define MAPS_MAX (256u << 20)
#define MEMFD    "/memfd:"
#define SYSV     "/SYSV"
#define DELETED  " (deleted)"

struct shared_scan {
	dev_t dev; /* of the kernel's internal tmpfs, which contains such objects only */
	int flags;
	shared_found_fn *fn;
	void *arg;
	struct {
		dev_t dev;
		uint64_t ino;
	} * seen; /* ascending */
	size_t n, room;
};

dev_t shared_scan_device(void)
{
	cleanup_close int fd = memfd_create("", MFD_CLOEXEC);
	struct stat st;

	return fd < 0 || fstat(fd, &st) ? 0 : st.st_dev;
}

/* True if the object was seen before; *at is its index, or the index at which to insert it. */
static bool shared_scan_find_seen(const struct shared_scan *s, dev_t dev, uint64_t ino, size_t *at)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (s->seen[mid].dev < dev || (s->seen[mid].dev == dev && s->seen[mid].ino < ino))
			low = mid + 1;
		else
			high = mid;
	}
	*at = low;
	return low < s->n && s->seen[low].dev == dev && s->seen[low].ino == ino;
}

static bool shared_scan_was_seen(const struct shared_scan *s, dev_t dev, uint64_t ino)
{
	size_t at;

	return shared_scan_find_seen(s, dev, ino, &at);
}

/* True if the object was not seen before. */
static bool shared_scan_mark_seen(struct shared_scan *s, dev_t dev, uint64_t ino)
{
	size_t at;

	if (shared_scan_find_seen(s, dev, ino, &at))
		return false;
	array_reserve(s->seen, s->n, s->room);
	memmove(&s->seen[at + 1], &s->seen[at], (s->n - at) * sizeof(*s->seen));
	s->seen[at].dev = dev;
	s->seen[at].ino = ino;
	s->n++;
	return true;
}

static bool shared_scan_is_object(const struct shared_scan *s, int fd, const struct stat *st)
{
	struct statfs fs;

	return S_ISREG(st->st_mode) &&
	       (st->st_dev == s->dev || (st->st_nlink == 0 && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC));
}

/* path: a link in /proc to the object itself. The process may have replaced the object meanwhile, so the checks are
 * made on an O_PATH descriptor, and nothing else is opened for reading. */
static void shared_scan_open_object(struct shared_scan *s, const char *path)
{
	cleanup_close int found = open(path, O_PATH | O_CLOEXEC);
	char own[32];
	struct stat st;
	int fd;

	if (found < 0 || fstat(found, &st) || !shared_scan_is_object(s, found, &st) ||
	    !shared_scan_mark_seen(s, st.st_dev, st.st_ino))
		return;
	snprintf(own, sizeof(own), "/proc/self/fd/%d", found);
	fd = open(own, s->flags | O_CLOEXEC);
	if (fd >= 0 && !s->fn(s->arg, fd, &st))
		close(fd);
}

static bool shared_scan_is_deleted(const char *name)
{
	const size_t len = strlen(name), end = strlen(DELETED);

	return len > end && !strcmp(name + len - end, DELETED);
}

static void shared_scan_maps_line(struct shared_scan *s, pid_t pid, const char *line)
{
	unsigned maj, min;
	uint64_t start, end, ino;
	char path[96];
	int name = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*x %x:%x %" SCNu64 " %n", &start, &end, &maj, &min, &ino,
		   &name) != 5 ||
	    !name)
		return;
	if (makedev(maj, min) == s->dev ? !strncmp(line + name, SYSV, strlen(SYSV))
					: !shared_scan_is_deleted(line + name))
		return;
	if (shared_scan_was_seen(s, makedev(maj, min), ino))
		return;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, start, end);
	shared_scan_open_object(s, path);
}

static void shared_scan_maps(struct shared_scan *s, pid_t pid)
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
		shared_scan_maps_line(s, pid, line);
	}
}

/* If the directory cannot be read, objects may be missed. The caller notices that: it knows from the library in criu,
 * or from the image, which objects there are. */
static void shared_scan_fds(struct shared_scan *s, pid_t pid)
{
	cleanup_dir DIR *d = NULL;
	char path[64], link[PATH_MAX + 1], whole[330];
	const struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && dir_next(d, &e) > 0) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, link, PATH_MAX);

		if (len <= 0)
			continue;
		link[len] = '\0';
		if (strncmp(link, MEMFD, strlen(MEMFD)) != 0 && !shared_scan_is_deleted(link))
			continue;
		snprintf(whole, sizeof(whole), "%s/%s", path, e->d_name);
		shared_scan_open_object(s, whole);
	}
}

void shared_scan_processes(const pid_t *pids, int n, int flags, shared_found_fn *fn, void *arg)
{
	struct shared_scan s = { .dev = shared_scan_device(), .flags = flags, .fn = fn, .arg = arg };

	if (!s.dev)
		return;
	for (int i = 0; i < n; i++) {
		shared_scan_maps(&s, pids[i]);
		shared_scan_fds(&s, pids[i]);
	}
	free(s.seen);
}
