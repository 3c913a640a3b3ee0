#include "store/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <jansson.h>

#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/usage_told.h"
#include "base/util.h"
#include "base/uuid_text.h"
#include "store/scan.h"
#include "store/store_internal.h"

#define WRITING   ".writing"
#define UNIT      1024 /* bytes. ext4 has files of up to 16 TiB, which is 16 PiB in this unit */
#define NAME_ROOM 80

/* ---- directories and files ---- */

static int usage_open_base(const char *base, struct err *err)
{
	cleanup_close int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open checkpoint directory %s", base);
	return store_check_dir(fd, base, err) < 0 ? -1 : steal_fd(&fd);
}

/* ENOENT: no quota was ever set. */
static int usage_open(const char *base, struct err *err)
{
	cleanup_close int basefd = usage_open_base(base, err);

	return basefd < 0 ? -1 : store_open_dir(basefd, USAGE_DIR, USAGE_DIR " of the checkpoint directory", err);
}

static int usage_open_user(int usagefd, uid_t uid, bool create, struct err *err)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", (unsigned)uid);
	if (create && mkdirat(usagefd, name, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "cannot make the directory " USAGE_DIR "/%s", name);
	return store_open_dir(usagefd, name, name, err);
}

/* The size of a sparse file: one system call sets it, and one reads it. */
static int usage_set(int userfd, const char *name, uint64_t bytes, struct err *err)
{
	const off_t units = (off_t)(bytes / UNIT + (bytes % UNIT != 0));
	cleanup_close int fd = -1;
	struct stat st;

	if (!units && (unlinkat(userfd, name, 0) == 0 || errno == ENOENT))
		return 0;
	fd = openat(userfd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0 || (st.st_size != units && ftruncate(fd, units) < 0))
		return err_sys(err, errno, "cannot write " USAGE_DIR "/*/%s", name);
	return 0;
}

/* ---- sums ---- */

static int usage_add_up(int userfd, uint64_t *bytes, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(userfd, ".");
	const struct dirent *e;
	struct stat st;
	int more = -1;

	*bytes = 0;
	while (dir && (more = dir_next(dir, &e)) > 0)
		if (fstatat(userfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			*bytes += (uint64_t)st.st_size * UNIT;
	return more == 0 ? 0 : err_sys(err, errno, "cannot read a directory of " USAGE_DIR);
}

/* False: the name is not that of a user's directory. */
static bool usage_is_user(const char *name, uid_t *uid)
{
	char *end;
	const unsigned long n = strtoul(name, &end, 10);

	*uid = (uid_t)n;
	return *name >= '0' && *name <= '9' && !*end && n < UINT32_MAX;
}

/* Calls fn for each user's directory. */
static int usage_each_user(int usagefd, int (*fn)(int userfd, uid_t uid, void *arg, struct err *err), void *arg,
			   struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(usagefd, ".");
	const struct dirent *e;
	int more = -1;
	uid_t uid;

	while (dir && (more = dir_next(dir, &e)) > 0) {
		cleanup_close int fd = -1;

		if (!usage_is_user(e->d_name, &uid))
			continue;
		fd = usage_open_user(usagefd, uid, false, err);
		if (fd < 0 || fn(fd, uid, arg, err) < 0)
			return -1;
	}
	return more == 0 ? 0 : err_sys(err, errno, "cannot read " USAGE_DIR);
}

struct usage_adding {
	uid_t uid;
	struct usage *u;
};

static int usage_add_user(int userfd, uid_t uid, void *arg, struct err *err)
{
	const struct usage_adding *a = arg;
	uint64_t bytes;

	if (usage_add_up(userfd, &bytes, err) < 0)
		return -1;
	a->u->all += bytes;
	if (uid == a->uid)
		a->u->user = bytes;
	return 0;
}

int usage_sum(const char *base, uid_t uid, struct usage *u, struct err *err)
{
	struct usage_adding a = { uid, u };
	cleanup_close int usagefd = usage_open(base, err);

	*u = (struct usage){ 0 };
	return usagefd < 0 ? -1 : usage_each_user(usagefd, usage_add_user, &a, err);
}

/* ---- one job ---- */

int usage_begin(const char *base, uid_t uid, const char *job, uint64_t bytes, struct err *err)
{
	cleanup_close int usagefd = usage_open(base, err), userfd = -1;
	char name[NAME_ROOM];

	userfd = usagefd < 0 ? -1 : usage_open_user(usagefd, uid, true, err);
	snprintf(name, sizeof(name), "%.64s" WRITING, job);
	return userfd < 0 ? -1 : usage_set(userfd, name, bytes, err);
}

void usage_end(const char *base, uid_t uid, const char *job)
{
	cleanup_close int usagefd = usage_open(base, NULL), userfd = -1;
	char name[NAME_ROOM];

	userfd = usagefd < 0 ? -1 : usage_open_user(usagefd, uid, false, NULL);
	snprintf(name, sizeof(name), "%.64s" WRITING, job);
	if (userfd >= 0)
		unlinkat(userfd, name, 0);
}

int usage_record(const struct store *s, const struct job_record *r, struct err *err)
{
	cleanup_close int basefd = openat(s->dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), usagefd = -1, userfd = -1;
	const char *name = strrchr(s->path, '/') + 1;

	/* A pod without Slurm may lie in a directory of a user's. */
	if (basefd < 0 || store_check_dir(basefd, s->path, NULL) < 0)
		return 0;
	usagefd = store_open_dir(basefd, USAGE_DIR, USAGE_DIR " of the checkpoint directory", err);
	if (usagefd < 0)
		return err && err->num == ENOENT ? 0 : -1;
	userfd = usage_open_user(usagefd, r->uid, true, err);
	return userfd < 0 ? -1 : usage_set(userfd, name, record_bytes(r), err);
}

/* ---- jobs that are gone ---- */

struct usage_moving {
	const char *from, *to;
};

static int usage_move_in(int userfd, uid_t uid, void *arg, struct err *err)
{
	const struct usage_moving *m = arg;

	renameat(userfd, m->from, userfd, m->to);
	return 0;
}

void usage_move(int basefd, const char *from, const char *to)
{
	struct usage_moving m = { from, to };
	cleanup_close int usagefd = store_open_dir(basefd, USAGE_DIR, USAGE_DIR, NULL);

	if (usagefd >= 0)
		usage_each_user(usagefd, usage_move_in, &m, NULL);
}

static int usage_forget_in(int userfd, uid_t uid, void *arg, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(userfd, ".");
	const int *basefd = arg;
	const struct dirent *e;

	while (dir && dir_next(dir, &e) > 0) {
		char job[NAME_MAX + 1];
		struct stat st;
		size_t n = strlen(e->d_name);

		snprintf(job, sizeof(job), "%s", e->d_name);
		if (n > strlen(WRITING) && strcmp(job + n - strlen(WRITING), WRITING) == 0)
			job[n - strlen(WRITING)] = '\0';
		if (fstatat(*basefd, job, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			unlinkat(userfd, e->d_name, 0);
	}
	return 0;
}

void usage_forget_gone(const char *base, uid_t uid, bool all)
{
	cleanup_close int basefd = usage_open_base(base, NULL), usagefd = usage_open(base, NULL), userfd = -1;

	if (basefd < 0 || usagefd < 0)
		return;
	if (all) {
		usage_each_user(usagefd, usage_forget_in, &basefd, NULL);
		return;
	}
	userfd = usage_open_user(usagefd, uid, false, NULL);
	if (userfd >= 0)
		usage_forget_in(userfd, uid, &basefd, NULL);
}

/* ---- for users ---- */

static void usage_write_told(int usagefd, uid_t uid, const struct usage *u, uint64_t need)
{
	json_t *o = json_pack("{s:I, s:I, s:I, s:I}", "user", (json_int_t)u->user, "all", (json_int_t)u->all, "need",
			      (json_int_t)need, "time", (json_int_t)time(NULL));
	cleanup_free char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	char name[32];

	json_decref(o);
	snprintf(name, sizeof(name), USAGE_TOLD, (unsigned)uid);
	if (text)
		write_file_for(usagefd, name, uid, false, text, strlen(text));
}

void usage_tell(const char *base, uid_t uid, const struct usage *u, uint64_t need)
{
	cleanup_close int usagefd = usage_open(base, NULL);

	if (usagefd >= 0)
		usage_write_told(usagefd, uid, u, need);
}

struct usage_telling {
	int usagefd;
	struct usage u;
};

static int usage_tell_again(int userfd, uid_t uid, void *arg, struct err *err)
{
	struct usage_telling *t = arg;
	char name[32];

	snprintf(name, sizeof(name), USAGE_TOLD, (unsigned)uid);
	if (faccessat(t->usagefd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 && usage_add_up(userfd, &t->u.user, err) == 0)
		usage_write_told(t->usagefd, uid, &t->u, 0);
	return 0;
}

void usage_pruned(const char *base)
{
	cleanup_close int usagefd = usage_open(base, NULL);
	struct usage_telling t = { .usagefd = usagefd };

	if (usagefd < 0)
		return;
	usage_forget_gone(base, 0, true);
	if (usage_sum(base, 0, &t.u, NULL) == 0)
		usage_each_user(usagefd, usage_tell_again, &t, NULL);
}

/* ---- the first time ---- */

struct usage_making {
	int fd;
	struct err *err;
	bool failed;
};

static bool usage_take_record(const struct scan_job *j, void *arg)
{
	struct usage_making *m = arg;
	cleanup_close int userfd = usage_open_user(m->fd, j->record->uid, true, m->err);

	m->failed = userfd < 0 || usage_set(userfd, j->name, record_bytes(j->record), m->err) < 0;
	return !m->failed;
}

/* Under another name, which is then changed: the directory is complete when it is there. */
static int usage_make(const char *base, int basefd, struct err *err)
{
	char uuid[UUID_TEXT_LEN + 1], name[sizeof(uuid) + 16];
	struct usage_making m = { .fd = -1, .err = err };
	struct scan_result result;
	int rc = -1;

	/* Nodes may do this at the same time. */
	uuid_text_new(uuid);
	snprintf(name, sizeof(name), USAGE_DIR ".%s.new", uuid);
	if (mkdirat(basefd, name, 0711) < 0 || fchmodat(basefd, name, 0711, 0) < 0)
		return err_sys(err, errno, "cannot make %s/%s", base, name);
	m.fd = store_open_dir(basefd, name, name, err);
	if (m.fd >= 0 && store_scan(base, false, usage_take_record, &m, &result, err) == 0 && !m.failed)
		rc = renameat(basefd, name, basefd, USAGE_DIR) == 0 || errno == EEXIST || errno == ENOTEMPTY
			     ? 0
			     : err_sys(err, errno, "cannot make %s/" USAGE_DIR, base);
	cleanup_closep(&m.fd);
	remove_tree_at(basefd, name); /* of a process that was slower than another */
	return rc;
}

int usage_prepare(const char *base, struct err *err)
{
	cleanup_close int basefd = usage_open_base(base, err);

	if (basefd < 0)
		return -1;
	if (faccessat(basefd, USAGE_DIR, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return usage_make(base, basefd, err);
}
