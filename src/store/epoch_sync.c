/* Syncs the files of an epoch with several threads.
 *
 * An epoch has dozens of small files. Each fsync() commits the file system's journal and flushes the disk; fsync()
 * calls that wait at the same time share a commit and a flush (measured on ext4: 400 files take 0.1 s instead of 1.2
 * s). syncfs() would be as fast, but it also waits for everything that others have written, and it reports errors only
 * since Linux 5.8. */
#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "base/array.h"
#include "base/util.h"

#define THREADS 8

struct sync {
	int dirfd;
	char **paths;
	size_t n, room, next;
	pthread_mutex_t lock; /* protects next, failed and why */
	bool failed;
	struct err why;
};

static int epoch_sync_note_path(void *arg, int dirfd, const char *name, const char *path, const struct stat *st,
				struct err *err)
{
	struct sync *s = arg;

	(void)dirfd;
	(void)name;
	(void)st;
	(void)err;
	array_reserve(s->paths, s->n, s->room);
	s->paths[s->n++] = xstrdup(path);
	return 0;
}

static int epoch_sync_file(int dirfd, const char *path, struct err *err)
{
	cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open %s", path);
	return fsync(fd) < 0 ? err_sys(err, errno, "cannot write %s to the disk", path) : 0;
}

static const char *epoch_sync_next_path(struct sync *s)
{
	const char *path = NULL;

	pthread_mutex_lock(&s->lock);
	if (!s->failed && s->next < s->n)
		path = s->paths[s->next++];
	pthread_mutex_unlock(&s->lock);
	return path;
}

static void *epoch_sync_thread(void *arg)
{
	struct sync *s = arg;
	const char *path;
	struct err err;

	while ((path = epoch_sync_next_path(s))) {
		if (epoch_sync_file(s->dirfd, path, &err) == 0)
			continue;
		pthread_mutex_lock(&s->lock);
		if (!s->failed)
			s->why = err;
		s->failed = true;
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

static int epoch_sync_files(struct sync *s, struct err *err)
{
	pthread_t threads[THREADS - 1];
	int n = 0;

	/* Fewer threads than wanted only take more time. */
	while (n < THREADS - 1 && (size_t)n + 1 < s->n && pthread_create(&threads[n], NULL, epoch_sync_thread, s) == 0)
		n++;
	epoch_sync_thread(s);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	return s->failed ? err_set(err, s->why.num, "%s", s->why.text) : 0;
}

static int epoch_sync_dir(void *arg, int dirfd, const char *path, struct err *err)
{
	(void)arg;
	/* EINVAL: the file system does not support fsync() of directories. */
	return fsync(dirfd) < 0 && errno != EINVAL ? err_sys(err, errno, "cannot write directory %s to the disk", path)
						   : 0;
}

int epoch_sync(int dirfd, struct err *err)
{
	struct sync s = { .dirfd = dirfd, .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct epoch_walk list = { .file = epoch_sync_note_path, .arg = &s };
	const struct epoch_walk dirs = { .dir = epoch_sync_dir };
	int rc = epoch_walk(dirfd, &list, err);

	if (rc == 0)
		rc = epoch_sync_files(&s, err);
	for (size_t i = 0; i < s.n; i++)
		free(s.paths[i]);
	free(s.paths);
	return rc < 0 ? -1 : epoch_walk(dirfd, &dirs, err);
}
