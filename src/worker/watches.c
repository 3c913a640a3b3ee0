/* What a restored inotify or fanotify descriptor lacks: events that nobody has read, which cannot be read without
 * taking them from the job, and flags of inotify watches that criu does not set again. */
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/io.h"
#include "base/util.h"

struct lacking {
	unsigned unread, flags; /* descriptors */
};

static bool watches_have_unread(pid_t host, int fd)
{
	cleanup_close int pidfd = pidfd_open(host, 0);
	cleanup_close int queue = pidfd < 0 ? -1 : pidfd_getfd(pidfd, fd, 0);
	int bytes = 0;

	return queue >= 0 && ioctl(queue, FIONREAD, &bytes) == 0 && bytes > 0;
}

static bool watches_have_flags(int fdinfo, const char *name)
{
	cleanup_free char *info = NULL;
	unsigned mask;

	if (read_file_at(fdinfo, name, 16 << 20, &info) <= 0)
		return false;
	for (const char *p = strstr(info, "\ninotify "); p; p = strstr(p + 1, "\ninotify "))
		if (sscanf(p, "\ninotify wd:%*x ino:%*x sdev:%*x mask:%x", &mask) == 1 &&
		    (mask & (IN_ONESHOT | IN_EXCL_UNLINK)))
			return true;
	return false;
}

static void watches_look_at(struct lacking *l, pid_t host)
{
	cleanup_dir DIR *fds = NULL, *infos = NULL;
	const struct dirent *e;
	char path[64], link[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)host);
	fds = opendir(path);
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)host);
	infos = opendir(path);
	while (fds && infos && dir_next(fds, &e) > 0) {
		const ssize_t n = readlinkat(dirfd(fds), e->d_name, link, sizeof(link) - 1);

		link[n > 0 ? n : 0] = '\0';
		if (strcmp(link, "anon_inode:inotify") != 0 && strcmp(link, "anon_inode:[fanotify]") != 0)
			continue;
		l->unread += watches_have_unread(host, atoi(e->d_name));
		l->flags += watches_have_flags(dirfd(infos), e->d_name);
	}
}

void watches_warn(struct worker *w, const struct tree *t)
{
	struct lacking l = { 0 };

	for (int i = 0; i < t->n; i++)
		watches_look_at(&l, t->pids[i]);
	if (l.unread)
		worker_warn(w,
			    "events that %u inotify or fanotify descriptors hold and nobody has read yet are lost at a restart",
			    l.unread);
	if (l.flags)
		worker_warn(w,
			    "%u inotify descriptors have watches with IN_ONESHOT or IN_EXCL_UNLINK, which do not have "
			    "these flags after a restart",
			    l.flags);
}
