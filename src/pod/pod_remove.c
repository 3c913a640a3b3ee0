/* Removing the directory of a pod, and in it what the job has left in its private /tmp.
 *
 * A job can leave millions of files, or directories on a slow disk, that take longer to remove than Slurm waits for the
 * end of a step (UnkillableStepTimeout): it would take the node out of service. So the directory gets another name, and
 * what is not gone after a short time is left to a process that belongs to no step: niced, in the root cgroups, a child
 * of the node's init. There may be several; one at a time works, and removes whatever has such a name, also what one
 * that was killed has left. */
#include "pod/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/util.h"
#include "base/dir_tree.h"
#include "base/clock.h"
#include "pod/pod_network.h"
#include "pod/pod_tmp.h"

#define REMOVED      ".removed-"
#define NAMES_MAX    100
#define SOON_US      INT64_C(1000000)   /* of KillWait and of whoever waits for the end of the job */
#define UNMOUNTED_US INT64_C(600000000) /* data that the job wrote last may have to reach a slow disk before */
#define STEP_US      10000
#define NICE         19
#define IO_IDLE      (3 << 13) /* IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0) */
#define IO_WHO       1         /* IOPRIO_WHO_PROCESS */

static bool is_removed(const char *name)
{
	return !strncmp(name, REMOVED, strlen(REMOVED));
}

/* The kernel unmounts a /tmp that is an image when the last process of the pod has gone. */
static bool await_unmounted(int fd, const char *name, int64_t until)
{
	while (!pod_tmp_remove(fd, name)) {
		if (now_us() >= until)
			return false;
		usleep(STEP_US);
	}
	return true;
}

/* Whether there is one; with remove: those that there are. */
static bool any_removed(int fd, bool remove)
{
	cleanup_dir DIR *d = dir_open_at(fd, ".");
	const struct dirent *e;
	bool any = false;

	while (d && dir_next(d, &e) > 0) {
		if (!is_removed(e->d_name))
			continue;
		any = true;
		if (!remove)
			continue;
		await_unmounted(fd, e->d_name, now_us() + UNMOUNTED_US);
		remove_tree_at(fd, e->d_name);
	}
	return any;
}

static _Noreturn void remover(const char *parent)
{
	cleanup_close int fd = -1, null = -1;
	sigset_t none;

	prctl(PR_SET_NAME, "fsched-remover");
	setsid();
	if (chdir("/"))
		_exit(1);
	/* Pipes and sockets tell others of the end of the process that had them. */
	close_range(3, ~0U, 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i <= 2; i++)
		dup2(null, i);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	pod_leave_cgroups();
	setpriority(PRIO_PROCESS, 0, NICE);
	syscall(SYS_ioprio_set, IO_WHO, 0, IO_IDLE);
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX) == 0)
		any_removed(fd, true);
	_exit(0);
}

/* By way of a child, so that the remover is nobody's child here. */
static void start_remover(const char *parent)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (fork() == 0)
			remover(parent);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void pod_cleanup_rest(const char *parent)
{
	cleanup_close int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && any_removed(fd, false))
		start_remover(parent);
}

/* False: it is not there. A directory of that name may be left of a pod that had the same. */
static bool set_aside(int fd, const char *from, char name[NAME_MAX + 1])
{
	for (int i = 0; i < NAMES_MAX; i++) {
		if (snprintf(name, NAME_MAX + 1, REMOVED "%s.%d", from, i) > NAME_MAX)
			break;
		if (renameat(fd, from, fd, name) == 0)
			return true;
		if (errno == ENOENT)
			return false;
	}
	/* A name that is too long, a file system that is read-only: where it is, then. */
	snprintf(name, NAME_MAX + 1, "%s", from);
	return true;
}

void pod_cleanup(const char *dir)
{
	cleanup_close int fd = -1;
	char parent[PATH_MAX], name[NAME_MAX + 1];
	int64_t end;
	char *slash;

	snprintf(parent, sizeof(parent), "%s", dir);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent || !slash[1])
		return;
	pod_network_remove(dir);
	*slash++ = '\0';
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !set_aside(fd, slash, name))
		return;
	end = now_us() + SOON_US;
	if (await_unmounted(fd, name, end))
		remove_tree_until(fd, name, end);
	if (any_removed(fd, false))
		start_remover(parent);
}
