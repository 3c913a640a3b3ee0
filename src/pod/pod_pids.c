/* Finds the processes of a pod, and kills them. */
#include "pod/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/array.h"
#include "base/dir.h"
#include "base/io.h"
#include "base/clock.h"
#include "base/util.h"
#include "pod/tmp_guard.h"

int pod_recv(int ctl, char *buf, size_t len)
{
	ssize_t n;

	do
		n = recv(ctl, buf, len - 1, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return (int)n;
	buf[n] = '\0';
	return 1;
}

static bool pod_same_namespace(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* True if the PID namespace to which name (relative to /proc) leads is the pod's or was made by a process of the pod.
 */
static bool pod_is_inside(int proc, const char *name, const struct stat *pod, const struct stat *own)
{
	cleanup_close int fd = -1;
	struct stat st;
	int up;

	if (fstatat(proc, name, &st, 0) || pod_same_namespace(&st, own))
		return false;
	if (pod_same_namespace(&st, pod))
		return true;
	fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	while (fd >= 0) {
		up = ioctl(fd, NS_GET_PARENT);
		close(fd);
		fd = up;
		if (fd >= 0 && !fstat(fd, &st) && pod_same_namespace(&st, pod))
			return true;
	}
	return false;
}

int pod_pids(pid_t init, pid_t **pids, struct err *err)
{
	cleanup_dir DIR *dir = opendir("/proc");
	cleanup_free pid_t *list = NULL;
	size_t n = 0, room = 0;
	int more;
	struct stat pod, own;
	const struct dirent *e;
	char name[300], *end;
	long pid;

	*pids = NULL;
	if (!dir || stat("/proc/self/ns/pid", &own))
		return err_sys(err, errno, "cannot read /proc");
	snprintf(name, sizeof(name), "%d/ns/pid", init);
	if (fstatat(dirfd(dir), name, &pod, 0))
		return err_sys(err, errno, "cannot find the pod's first process %d", init);
	if (pod_same_namespace(&pod, &own))
		return err_set(err, ESRCH, "process %d is not the first process of a pod", init);
	while ((more = dir_next(dir, &e)) > 0) {
		pid = strtol(e->d_name, &end, 10);
		if (pid <= 0 || *end || pid == init)
			continue;
		snprintf(name, sizeof(name), "%s/ns/pid", e->d_name);
		if (!pod_is_inside(dirfd(dir), name, &pod, &own))
			continue;
		array_reserve(list, n, room);
		list[n++] = (pid_t)pid;
	}
	if (more < 0)
		return err_sys(err, errno, "cannot read /proc");
	*pids = steal_ptr(&list);
	return (int)n;
}

/* The pid inside the pod: the second number of NSpid, for the PID namespace one below the caller's. 0 if there is none.
 */
static int pid_in_pod(pid_t pid)
{
	cleanup_file FILE *f = NULL;
	char path[64], line[256];
	int inner;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "NSpid: %*d %d", &inner) == 1)
			return inner;
	return 0;
}

static int pod_leader_script(pid_t leader)
{
	cleanup_free char *text = NULL;
	char path[64];
	ssize_t len;
	size_t first;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", leader);
	len = read_file_at(AT_FDCWD, path, 1 << 22, &text);
	if (len <= 0)
		return 0;
	first = strlen(text) + 1;
	return first < (size_t)len ? atoi(text + first) : 0;
}

pid_t pod_script(pid_t init)
{
	cleanup_free pid_t *pids = NULL;
	int n = pod_pids(init, &pids, NULL), i, inner = 0;

	for (i = 0; i < n && !inner; i++)
		if (pid_in_pod(pids[i]) == 2)
			inner = pod_leader_script(pids[i]);
	for (i = 0; i < n && inner > 2; i++)
		if (pid_in_pod(pids[i]) == inner)
			return pids[i];
	return 0;
}

/* Opens one of fsched-init's descriptors of a /tmp that is an image. */
static int pod_open_tmp(pid_t init, int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", init, number);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int pod_kill(pid_t init, int timeout_ms, struct err *err)
{
	cleanup_close int fd = pidfd_open(init, 0), root = -1, delayed = -1;
	int64_t end = now_us() + (int64_t)timeout_ms * 1000, left;
	struct pollfd p = { fd, POLLIN, 0 };
	int got;

	if (fd < 0)
		return errno == ESRCH ? 0 : err_sys(err, errno, "cannot open process %d of the pod", init);
	/* Keeps /tmp mounted until all processes have ended. */
	root = pod_open_tmp(init, TMP_GUARD_ROOT_FD);
	delayed = pod_open_tmp(init, TMP_GUARD_DELAYED_FD);
	if (pidfd_send_signal(fd, SIGKILL, NULL, 0))
		return errno == ESRCH ? 0 : err_sys(err, errno, "cannot kill process %d of the pod", init);
	/* pid 1 becomes waitable only after the kernel has killed and reaped all other processes of its namespace. */
	do {
		left = (end - now_us()) / 1000;
		got = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_sys(err, errno, "cannot wait for process %d of the pod", init);
	if (got == 0)
		return err_set(err, ETIMEDOUT,
			       "processes of the pod (first process %d) are still there %d s after SIGKILL; "
			       "they probably wait for a device or a file server",
			       init, timeout_ms / 1000);
	if (root >= 0)
		tmp_guard_drop(root, delayed);
	return 0;
}
