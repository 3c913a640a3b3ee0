/* The standard descriptors of a pod. criu can save an open file only if it was opened through a mount of the pod. */
#include "cli/pod/pod_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "base/dir.h"
#include "base/text.h"
#include "base/user.h"
#include "base/util.h"

enum action { KEEP, REOPEN, SHARE, TO_NULL };

static const char *const names[] = { "standard input", "standard output", "standard error" };

static bool read_fd_link(int dirfd, const char *name, char *buf, size_t len)
{
	ssize_t n = readlinkat(dirfd, name, buf, len - 1);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	return true;
}

/* The lower descriptor with the same open file description, or -1. Descriptors 1 and 2 of `>out 2>&1` share one file
 * position; opened twice, they would overwrite each other. */
static int stdio_shared_with(int fd)
{
	pid_t me = getpid();
	int other;

	for (other = 0; other < fd; other++)
		if (syscall(SYS_kcmp, me, me, KCMP_FILE, fd, other) == 0)
			return other;
	return -1;
}

static bool can_reopen(int fd, const char *path)
{
	struct stat a, b;

	return path[0] == '/' && !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino &&
	       (S_ISREG(a.st_mode) || !strcmp(path, "/dev/null"));
}

static const char *stdio_kind(int fd)
{
	struct stat st;

	if (isatty(fd))
		return "a terminal";
	if (fstat(fd, &st))
		return "closed";
	return S_ISFIFO(st.st_mode) ? "a pipe" : S_ISSOCK(st.st_mode) ? "a socket" : "no regular file";
}

/* A restore truncates the file to its size at the checkpoint, by path and as the user. That fails with a file that
 * root's shell has created for the output. */
static bool user_may_write(const char *path, const struct pod_cred *c)
{
	struct user_child child = { .pid = fork() };

	if (child.pid == 0)
		_exit(user_become(c->uid, c->gid, c->groups, c->n_groups) || access(path, W_OK));
	return child.pid > 0 && user_child_ended(&child, true) && child.status == 0;
}

static void check_writable(struct pod_stdio *s, int fd, const struct pod_cred *c)
{
	const char *path = s->fd[fd].path;
	char shown[256];

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY || user_may_write(path, c))
		return;
	json_array_append_new(s->outside, json_string(path));
	cli_error("pod",
		  "%s %s cannot be written by the command's user (uid %u), so it could not be set back at a restore: "
		  "no checkpoint is possible while the command has it open; chown it first",
		  names[fd], printable(path, shown, sizeof(shown)), c->uid);
}

static void stdio_plan_one(struct pod_stdio *s, int fd, const struct pod_cred *cred)
{
	char name[32], path[sizeof(s->fd[fd].path)] = "", shown[256];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	read_fd_link(AT_FDCWD, name, path, sizeof(path));
	s->fd[fd].same_as = stdio_shared_with(fd);
	if (can_reopen(fd, path)) {
		s->fd[fd].action = s->fd[fd].same_as >= 0 && s->fd[s->fd[fd].same_as].action == REOPEN ? SHARE : REOPEN;
		snprintf(s->fd[fd].path, sizeof(s->fd[fd].path), "%s", path);
		if (s->fd[fd].action == REOPEN)
			check_writable(s, fd, cred);
	} else if (fd == 0 || !path[0]) {
		s->fd[fd].action = TO_NULL;
		if (path[0] && !isatty(fd))
			cli_error("pod", "standard input is %s; the command gets /dev/null instead: give it a file",
				  stdio_kind(fd));
	} else {
		s->fd[fd].action = KEEP;
		/* The preflight check finds a terminal. Its name does not tell it from one of the pod. */
		if (!isatty(fd))
			json_array_append_new(s->outside, json_string(path));
		cli_error("pod",
			  "%s is %s%s%s: no checkpoint is possible while the command has it open; redirect it to a file",
			  names[fd], stdio_kind(fd), path[0] == '/' ? " " : "",
			  path[0] == '/' ? printable(path, shown, sizeof(shown)) : "");
	}
}

void pod_stdio_plan(struct pod_stdio *s, const struct pod_cred *cred)
{
	int fd;

	s->outside = json_array();
	for (fd = 0; fd < 3; fd++)
		stdio_plan_one(s, fd, cred);
}

/* The path is resolved by root in the pod: it is opened only after a check that it leads to the same file. */
static int stdio_reopen(int fd, const char *path, struct err *err)
{
	cleanup_close int ref = open(path, O_PATH | O_CLOEXEC);
	cleanup_close int new = -1;
	int flags = fcntl(fd, F_GETFL);
	off_t at = lseek(fd, 0, SEEK_CUR);
	struct stat a, b;
	char name[32];

	if (ref < 0 || fstat(ref, &a) || fstat(fd, &b))
		return err_sys(err, errno, "cannot reach %s (%s) in the pod", path, names[fd]);
	if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return err_set(err, 0, "%s (%s) is another file in the pod", path, names[fd]);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", ref);
	new = open(name, (flags & (O_ACCMODE | O_APPEND)) | O_CLOEXEC);
	if (new < 0)
		return err_sys(err, errno, "cannot open %s (%s) in the pod", path, names[fd]);
	if (at > 0 && lseek(new, at, SEEK_SET) < 0)
		return err_sys(err, errno, "cannot set the position in %s", path);
	if (dup2(new, fd) < 0)
		return err_sys(err, errno, "cannot redirect %s", names[fd]);
	return 0;
}

int pod_stdio_apply(const struct pod_stdio *s, struct err *err)
{
	int fd, null;

	for (fd = 0; fd < 3; fd++) {
		if (s->fd[fd].action == REOPEN && stdio_reopen(fd, s->fd[fd].path, err))
			return -1;
		if (s->fd[fd].action == SHARE && dup2(s->fd[fd].same_as, fd) < 0)
			return err_sys(err, errno, "cannot redirect %s", names[fd]);
		if (s->fd[fd].action != TO_NULL)
			continue;
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0 || (null != fd && dup2(null, fd) < 0))
			return err_sys(err, errno, "cannot open /dev/null for %s", names[fd]);
		if (null > 2)
			close(null);
		else
			fcntl(null, F_SETFD, 0);
	}
	return 0;
}

/* Whether the file has been given to the user meanwhile, for example by chown. */
static bool is_good_now(const char *path, const struct pod_cred *cred)
{
	struct stat st;

	return path[0] == '/' && !stat(path, &st) && S_ISREG(st.st_mode) && user_may_write(path, cred);
}

/* 1: the process has one of these files open, and link is its name. 0: it has none. -1 with errno: its descriptors
 * cannot be listed. */
static int has_open(pid_t pid, const json_t *outside, const struct pod_cred *cred, char *link, size_t len)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	const json_t *v;
	char path[64];
	int more = 0;
	size_t i;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : -1;
	while ((more = dir_next(d, &e)) > 0) {
		if (!read_fd_link(dirfd(d), e->d_name, link, len))
			continue;
		json_array_foreach(outside, i, v)
			if (!strcmp(json_string_value(v), link) && !is_good_now(link, cred))
				return 1;
	}
	return more;
}

int pod_stdio_check(const json_t *outside, pid_t init, const struct pod_cred *cred, struct err *err)
{
	cleanup_free pid_t *pids = NULL;
	char link[PATH_MAX], shown[256];
	int i, n;

	if (!json_array_size(outside))
		return 0;
	n = pod_pids(init, &pids, err);
	if (n < 0)
		return -1;
	for (i = 0; i < n; i++) {
		int found = has_open(pids[i], outside, cred, link, sizeof(link));

		if (found < 0)
			return err_sys(err, errno, "cannot list the descriptors of process %d", pids[i]);
		if (found)
			return err_set(err, 0,
				       "process %d of the pod has %s open, which could not be restored; "
				       "start the command with its output redirected to a file of its user",
				       pids[i], printable(link, shown, sizeof(shown)));
	}
	return 0;
}
