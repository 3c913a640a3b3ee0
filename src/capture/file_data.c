#include "capture/file_data.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/array.h"
#include "base/util.h"
#include "capture/shared.h"

#define DEPTH_MAX 200

struct file_data_walk {
	const struct mem_image *image;
	struct mem_shared *targets;
	char path[PATH_MAX];
	struct touched {
		int fd;
		struct timespec times[2];
	} * v; /* files that are written to: owned descriptors, and the times to set afterwards */
	size_t n, room;
};

static void file_data_open_target(struct file_data_walk *k, int dirfd, const char *name, const struct stat *st)
{
	int fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), own;

	if (fd < 0 || !mem_shared_add_target(k->targets, k->image, k->path, fd))
		return;
	own = openat(dirfd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (own < 0)
		return;
	array_reserve(k->v, k->n, k->room);
	k->v[k->n++] = (struct touched){ own, { st->st_atim, st->st_mtim } };
}

static int file_data_walk(struct file_data_walk *k, int fd, int depth, struct err *err)
{
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	size_t len = strlen(k->path);
	const struct dirent *e;
	int more = -1, rc = 0;
	struct stat st;

	while (!rc && d && (more = dir_next(d, &e)) > 0) {
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		snprintf(k->path + len, sizeof(k->path) - len, "%s%s", len ? "/" : "", e->d_name);
		if (S_ISREG(st.st_mode))
			file_data_open_target(k, dirfd(d), e->d_name, &st);
		else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			rc = file_data_walk(k,
					    openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
					    depth + 1, err);
		k->path[len] = '\0';
	}
	return more < 0 ? err_sys(err, errno, "cannot read a directory of /dev/shm") : rc;
}

static int file_data_write(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	return mem_shared_write(arg, id, addr, buf, len);
}

static int file_data_read_image(struct mem_image *m, const struct mem_shared *targets, int threads, struct err *err)
{
	const struct mem_sink sink = { .write = file_data_write, .arg = (void *)(uintptr_t)targets }; /* zeros stay
													 holes */
	struct mem_read_opts o = { .threads = threads };
	cleanup_free struct mem_range *only = NULL;

	o.only = only = mem_shared_spaces(m, true, &o.n_only);
	return mem_shared_check_targets(targets, m, err) || mem_image_read_pages(m, &sink, &o, NULL, err) ? -1 : 0;
}

bool mem_file_data_any(const struct mem_image *m)
{
	size_t n;

	free(mem_shared_spaces(m, true, &n));
	return n > 0;
}

int mem_file_data_fill(struct mem_image *m, int dirfd, int threads, struct err *err)
{
	struct file_data_walk *k = xcalloc(1, sizeof(*k));
	int rc;

	k->image = m;
	k->targets = mem_shared_new();
	rc = file_data_walk(k, openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, err) ||
			     file_data_read_image(m, k->targets, threads, err)
		     ? -1
		     : 0;
	for (size_t i = 0; i < k->n; i++) {
		if (!rc && futimens(k->v[i].fd, k->v[i].times))
			rc = err_sys(err, errno, "cannot set the times of a file in /dev/shm");
		close(k->v[i].fd);
	}
	mem_shared_free(k->targets);
	free(k->v);
	free(k);
	return rc ? err_wrap(err, "files of /dev/shm cannot be filled") : 0;
}
