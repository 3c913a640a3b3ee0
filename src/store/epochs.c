/* The directories of epochs: N.partial while an epoch is written, N when it is complete. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/util.h"
#include "store/store_internal.h"

#define EPOCH_NAME         32
#define EPOCHS_ON_DISK_MAX 100000
#define FULL               "full"

static const char *epoch_name(unsigned epoch, bool partial, char buf[EPOCH_NAME])
{
	snprintf(buf, EPOCH_NAME, "%06u%s", epoch, partial ? ".partial" : "");
	return buf;
}

/* The number in the name of a complete epoch's directory, or -1. */
static int64_t epoch_parse_name(const char *name)
{
	char again[EPOCH_NAME];
	uint64_t n = 0;

	for (const char *p = name; *p; p++) {
		if (*p < '0' || *p > '9' || n > UINT_MAX)
			return -1;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	if (n == 0 || n > UINT_MAX || strcmp(epoch_name((unsigned)n, false, again), name) != 0)
		return -1;
	return (int64_t)n;
}

static int epochs_sync_dir(const struct store *s, struct err *err)
{
	if (fsync(s->epochsfd) < 0 && errno != EINVAL)
		return err_sys(err, errno, "cannot sync %s/epochs", s->path);
	return 0;
}

int store_begin_epoch(const struct store *s, unsigned epoch, struct err *err)
{
	static const char *const subdirs[] = { "criu", "files" };
	cleanup_close int fd = -1;
	char name[EPOCH_NAME];

	if (epoch == 0)
		return err_set(err, EINVAL, "epochs are numbered from 1 on");
	epoch_name(epoch, true, name);
	if (remove_tree_at(s->epochsfd, name) < 0)
		return err_sys(err, errno, "cannot remove the stale %s/epochs/%s", s->path, name);
	if (mkdirat(s->epochsfd, name, 0700) < 0)
		return err_sys(err, errno, "cannot make %s/epochs/%s", s->path, name);
	fd = store_open_dir(s->epochsfd, name, name, err);
	if (fd < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(subdirs); i++)
		if (mkdirat(fd, subdirs[i], 0700) < 0)
			return err_sys(err, errno, "cannot make %s/epochs/%s/%s", s->path, name, subdirs[i]);
	return steal_fd(&fd);
}

int store_sync_epoch(const struct store *s, unsigned epoch, struct err *err)
{
	cleanup_close int fd = -1;
	char name[EPOCH_NAME];

	fd = store_open_dir(s->epochsfd, epoch_name(epoch, true, name), name, err);
	if (fd < 0)
		return -1;
	if (epoch_sync(fd, err) < 0)
		return err_wrap(err, "epoch %u", epoch);
	return epochs_sync_dir(s, err);
}

int store_commit_epoch(const struct store *s, unsigned epoch, struct err *err)
{
	char partial[EPOCH_NAME], name[EPOCH_NAME];

	epoch_name(epoch, true, partial);
	epoch_name(epoch, false, name);
	/* renameat() replaces only an empty directory, and a complete epoch is never empty. */
	if (renameat(s->epochsfd, partial, s->epochsfd, name) < 0)
		return err_sys(err, errno, "cannot rename %s/epochs/%s to %s", s->path, partial, name);
	return epochs_sync_dir(s, err);
}

void store_abort_epoch(const struct store *s, unsigned epoch)
{
	char name[EPOCH_NAME];

	remove_tree_at(s->epochsfd, epoch_name(epoch, true, name));
}

static bool epochs_proof_is_under_way(const struct store *s)
{
	cleanup_close int fd = openat(s->dirfd, STORE_PROVE_LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
}

void store_remove_partials(const struct store *s)
{
	cleanup_dir DIR *dir = dir_open_at(s->epochsfd, ".");
	const struct dirent *de;

	while (dir && dir_next(dir, &de) > 0) {
		size_t len = strlen(de->d_name);

		if (len > 8 && strcmp(de->d_name + len - 8, ".partial") == 0 &&
		    (strcmp(de->d_name, STORE_PROOF_DIR) != 0 || !epochs_proof_is_under_way(s)))
			remove_tree_at(s->epochsfd, de->d_name);
	}
}

int store_remove_epoch(const struct store *s, unsigned epoch, struct err *err)
{
	char partial[EPOCH_NAME], name[EPOCH_NAME];

	epoch_name(epoch, true, partial);
	epoch_name(epoch, false, name);
	if (remove_tree_at(s->epochsfd, partial) < 0)
		return err_sys(err, errno, "cannot remove %s/epochs/%s", s->path, partial);
	if (renameat(s->epochsfd, name, s->epochsfd, partial) < 0)
		return err_sys(err, errno, "cannot remove epoch %u in %s", epoch, s->path);
	if (epochs_sync_dir(s, err) < 0)
		return -1;
	if (remove_tree_at(s->epochsfd, partial) < 0)
		return err_sys(err, errno, "cannot remove %s/epochs/%s", s->path, partial);
	return 0;
}

int store_open_epoch(const struct store *s, unsigned epoch, struct err *err)
{
	cleanup_free char *path = NULL;
	char name[EPOCH_NAME];

	path = xasprintf("%s/epochs/%s", s->path, epoch_name(epoch, false, name));
	return store_open_dir(s->epochsfd, name, path, err);
}

static uint64_t epoch_shared_in(int epochfd, const char *subdir)
{
	cleanup_dir DIR *dir = dir_open_at(epochfd, subdir);
	const struct dirent *de;
	uint64_t bytes = 0;
	struct stat st;

	while (dir && dir_next(dir, &de) > 0)
		if (fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    st.st_nlink > 1)
			bytes += (uint64_t)st.st_size;
	return bytes;
}

uint64_t store_epoch_shared(const struct store *s, unsigned epoch)
{
	cleanup_close int fd = store_open_epoch(s, epoch, NULL);

	return fd < 0 ? 0 : epoch_shared_in(fd, "memory") + epoch_shared_in(fd, "files");
}

void store_want_full(const struct store *s)
{
	cleanup_close int fd = openat(s->dirfd, FULL, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0)
		fsync(s->dirfd);
}

bool store_full_wanted(const struct store *s)
{
	return faccessat(s->dirfd, FULL, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void store_full_made(const struct store *s)
{
	unlinkat(s->dirfd, FULL, 0);
}

static int epochs_by_number(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

int store_list_epochs(const struct store *s, unsigned *out, int max)
{
	cleanup_dir DIR *dir = dir_open_at(s->epochsfd, ".");
	cleanup_free unsigned *all = NULL;
	const struct dirent *de;
	size_t n = 0, room = 0;
	int more = -1;

	while (dir && n < EPOCHS_ON_DISK_MAX && (more = dir_next(dir, &de)) > 0) {
		int64_t number = epoch_parse_name(de->d_name);
		struct stat st;

		if (number < 0 || fstatat(s->epochsfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			continue;
		array_reserve(all, n, room);
		all[n++] = (unsigned)number;
	}
	if (more < 0)
		return -1;
	if (n == 0 || max <= 0)
		return 0;
	qsort(all, n, sizeof(*all), epochs_by_number);
	if (n > (size_t)max)
		memcpy(out, all + (n - (size_t)max), (size_t)max * sizeof(*all));
	else
		memcpy(out, all, n * sizeof(*all));
	return n > (size_t)max ? max : (int)n;
}

void store_forget_removed(const struct store *s, struct job_record *r)
{
	unsigned list[STORE_KEPT_MAX], kept = 0;
	const int n = store_list_epochs(s, list, STORE_KEPT_MAX);

	if (n < 0)
		return;
	for (unsigned i = 0; i < r->n_epochs; i++)
		if (bsearch(&r->epochs[i].number, list, (size_t)n, sizeof(list[0]), epochs_by_number))
			r->epochs[kept++] = r->epochs[i];
	r->n_epochs = kept;
}

unsigned store_next_epoch(const struct store *s, const struct job_record *r, struct err *err)
{
	unsigned last = 0;

	if (store_list_epochs(s, &last, 1) < 0) {
		err_sys(err, errno, "cannot list the epochs in %s", s->path);
		return 0;
	}
	for (unsigned i = 0; i < r->n_epochs; i++)
		if (r->epochs[i].number > last)
			last = r->epochs[i].number;
	return last + 1;
}

unsigned store_previous_epoch(const struct store *s, unsigned epoch)
{
	cleanup_free unsigned *list = xcalloc(STORE_KEPT_MAX, sizeof(*list));
	int n = store_list_epochs(s, list, STORE_KEPT_MAX);

	while (n > 0 && list[n - 1] >= epoch)
		n--;
	return n > 0 ? list[n - 1] : 0;
}
