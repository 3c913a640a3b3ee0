#include "base/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dir.h"
#include "base/util.h"

#define LOCK_FILE    "lock"
#define LOCK_POLL_US 2000

static int turn_open_dir(const char *dir, struct err *err)
{
	cleanup_close int fd = -1;
	struct stat st;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "cannot make the directory %s", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot open the directory %s", dir);
	if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return err_set(err, EPERM, "others than root can write into %s", dir);
	return steal_fd(&fd);
}

/* Returns the descriptor that holds the lock of the directory. */
static int turn_lock_dir(int dirfd, struct err *err)
{
	cleanup_close int fd = openat(dirfd, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	const int64_t until = now_us() + TURN_LOCK_MS * INT64_C(1000);

	if (fd < 0)
		return err_sys(err, errno, "cannot open the lock of turns");
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(err, errno, "cannot lock the turns");
		if (now_us() > until)
			return err_set(err, EBUSY, "a process of fsched holds the lock of turns and does not go on");
		usleep(LOCK_POLL_US);
	}
	return steal_fd(&fd);
}

/* 0: the name is not that of a ticket. */
static uint64_t turn_number_of(const char *name)
{
	char *end;
	const unsigned long long n = strtoull(name, &end, 10);

	return *name >= '1' && *name <= '9' && !*end ? n : 0;
}

/* Whether the process of a ticket lives. The ticket of one that does not is removed. */
static bool turn_lives(int dirfd, const char *name)
{
	cleanup_close int fd = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK;
	unlinkat(dirfd, name, 0);
	return false;
}

struct turn_scan {
	uint64_t before; /* only tickets with a smaller number */
	unsigned living;
	uint64_t last; /* the highest number */
};

/* With the directory's lock. */
static int turn_scan(int dirfd, struct turn_scan *s, struct err *err)
{
	cleanup_dir DIR *dir = dir_open_at(dirfd, ".");
	const struct dirent *e;
	int more = -1;

	while (dir && (more = dir_next(dir, &e)) > 0) {
		const uint64_t n = turn_number_of(e->d_name);

		if (!n || n >= s->before || !turn_lives(dirfd, e->d_name))
			continue;
		s->living++;
		s->last = n > s->last ? n : s->last;
	}
	return more == 0 ? 0 : err_sys(err, errno, "cannot read the directory of turns");
}

int turn_take(const char *dir, struct turn *t, struct err *err)
{
	cleanup_close int dirfd = turn_open_dir(dir, err), lock = -1, fd = -1;
	struct turn_scan s = { .before = UINT64_MAX };
	char name[24];

	*t = (struct turn){ .dirfd = -1, .fd = -1 };
	lock = dirfd < 0 ? -1 : turn_lock_dir(dirfd, err);
	if (lock < 0 || turn_scan(dirfd, &s, err) < 0)
		return -1;
	snprintf(name, sizeof(name), "%llu", (unsigned long long)s.last + 1);
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(err, errno, "cannot take a turn in %s", dir);
	*t = (struct turn){ steal_fd(&dirfd), steal_fd(&fd), s.last + 1 };
	return 0;
}

int turn_ahead(const struct turn *t, unsigned *n, struct err *err)
{
	cleanup_close int lock = turn_lock_dir(t->dirfd, err);
	struct turn_scan s = { .before = t->number };

	*n = 0;
	if (lock < 0 || turn_scan(t->dirfd, &s, err) < 0)
		return -1;
	*n = s.living;
	return 0;
}

void turn_end(struct turn *t)
{
	char name[24];

	if (t->fd < 0)
		return;
	/* In this order: nobody else can have a ticket of this name while it is locked. */
	snprintf(name, sizeof(name), "%llu", (unsigned long long)t->number);
	unlinkat(t->dirfd, name, 0);
	flock(t->fd, LOCK_UN); /* also if a child has the descriptor */
	close(t->fd);
	close(t->dirfd);
	*t = (struct turn){ .dirfd = -1, .fd = -1 };
}
