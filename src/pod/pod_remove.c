/* Removing the directory of a pod, and in it what the job has left in its private /tmp.
 *
 * A job can leave what takes longer to remove than Slurm waits for the end of a step (UnkillableStepTimeout), and would
 * so take the node out of service: millions of files, directories on a slow disk, one file of which each block lies
 * elsewhere, which takes minutes in a single call. So the directory gets another name, and a process that belongs to no
 * step removes it: in the root cgroups, a child of the node's init, niced after a second. Whoever ends the step waits a
 * second for it. Each pod has its own, so that none waits for what another user's job has left. What one that was
 * killed has left is removed by the next.
 *
 * A /tmp that is an image stays mounted as long as a process of the user outside of the pod has a file there open. Its
 * space is given back at once. The rest waits. */
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
#define UNMOUNTED_US INT64_C(600000000) /* a process outside of the pod may have a file there open */
#define STEP_US      10000
#define WAIT_US      1000
#define STEP_MAX_US  1000000
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
	useconds_t step = STEP_US;

	while (!pod_tmp_remove(fd, name)) {
		if (now_us() >= until)
			return false;
		usleep(step);
		step = 2 * step > STEP_MAX_US ? STEP_MAX_US : now_us() + SOON_US < until ? 2 * step : step;
	}
	return true;
}

static bool any_removed(int fd)
{
	cleanup_dir DIR *d = dir_open_at(fd, ".");
	const struct dirent *e;

	while (d && dir_next(d, &e) > 0)
		if (is_removed(e->d_name))
			return true;
	return false;
}

/* What removers that were killed have left. */
static void remove_rest(int fd)
{
	cleanup_dir DIR *d = dir_open_at(fd, ".");
	const struct dirent *e;

	while (d && dir_next(d, &e) > 0)
		if (is_removed(e->d_name) && pod_tmp_remove(fd, e->d_name))
			remove_tree_at(fd, e->d_name);
}

static void remove_give_way(void)
{
	setpriority(PRIO_PROCESS, 0, NICE);
	syscall(SYS_ioprio_set, IO_WHO, 0, IO_IDLE);
}

static void remove_own(int fd, const char *own)
{
	const int64_t soon = now_us() + SOON_US;

	if (await_unmounted(fd, own, soon) && remove_tree_until(fd, own, soon) == 0)
		return;
	remove_give_way();
	pod_tmp_empty(fd, own);
	await_unmounted(fd, own, now_us() + UNMOUNTED_US);
	remove_tree_at(fd, own);
}

/* own: name of the directory of a pod that has just ended; "" = there is none. */
static _Noreturn void remover(const char *parent, const char *own)
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
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		_exit(1);
	if (own[0])
		remove_own(fd, own);
	remove_give_way();
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		remove_rest(fd);
	_exit(0);
}

/* By way of a child, so that the remover is nobody's child here. */
static void start_remover(const char *parent, const char *own)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (fork() == 0)
			remover(parent, own);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void pod_cleanup_rest(const char *parent)
{
	cleanup_close int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && any_removed(fd))
		start_remover(parent, "");
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
	start_remover(parent, name);
	for (int64_t end = now_us() + SOON_US; now_us() < end && faccessat(fd, name, F_OK, 0) == 0;)
		usleep(WAIT_US);
}
