/* Part of libfsched-criu.so: the terminals that were made before criu (worker/restore_terminals.c).
 *
 * FSCHED_TERMINALS in criu's environment says which restored process gets which master, in the order in which criu
 * opens them: criu opens /dev/ptmx and asks for the number, until it has the one that it wants. It also says which
 * terminal is the controlling one of which session. A session leader opens it as soon as there is the session, so that
 * the processes that it forks inherit it. */
#include <asm/ioctls.h>
#include <errno.h>
#include <linux/fcntl.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "preload/rights.h"
#include "trace/raw_syscall.h"

#define INIT_PID    1
#define NUMBER_MAX  (1L << 24)
#define MASTERS_MAX 1100
#define NAME_MAX    24

static const char *table;
/* Of this process: which of its masters criu has taken, and which it was given last. Their descriptors in fsched-init.
 */
static int taken[MASTERS_MAX], n_taken, given;

__attribute__((constructor(201))) static void terminals_begin(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (; *envp; envp++)
		if (preload_after(*envp, "FSCHED_TERMINALS="))
			table = preload_after(*envp, "FSCHED_TERMINALS=");
}

/* Finds the next entry "KIND PID:NUMBER " of the calling process. *p: where to begin, and where to go on. Returns the
 * number or -1. */
static long terminals_next(const char **p, char kind)
{
	const long pid = raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);

	while (**p) {
		const char k = *(*p)++;
		const long of = preload_number(p, NUMBER_MAX);
		long number;

		if (of < 0 || *(*p)++ != ':')
			return -1;
		number = preload_number(p, NUMBER_MAX);
		if (number < 0 || *(*p)++ != ' ')
			return -1;
		if (k == kind && of == pid)
			return number;
	}
	return -1;
}

static bool terminals_is_taken(long fd)
{
	for (int i = 0; i < n_taken; i++)
		if (taken[i] == fd)
			return true;
	return false;
}

/* A master that criu has not taken yet: the next one after that which it was given last, or the first. */
static long terminals_choose(void)
{
	const char *p = table;
	long first = -1, fd;
	bool after = !given;

	while ((fd = terminals_next(&p, 'm')) >= 0) {
		if (!terminals_is_taken(fd)) {
			if (after && fd != given)
				return fd;
			first = first < 0 ? fd : first;
		}
		after = after || fd == given;
	}
	return first;
}

static long terminals_borrow(long fd)
{
	long init = raw_syscall(SYS_pidfd_open, INIT_PID, 0, 0, 0, 0, 0), ret;

	if (init < 0)
		return init;
	ret = rights_with(CAP(SYS_PTRACE), SYS_pidfd_getfd, init, fd, 0, 0, 0, 0);
	raw_syscall(SYS_close, init, 0, 0, 0, 0, 0);
	return ret;
}

static bool terminals_is_ptmx(const char *path)
{
	while (*path == '/')
		path++;
	return preload_equal(path, "dev/ptmx") || preload_equal(path, "dev/pts/ptmx");
}

bool terminals_open(const char *path, long *ret)
{
	long fd;

	if (!table || !terminals_is_ptmx(path) || (fd = terminals_choose()) < 0)
		return false;
	*ret = terminals_borrow(fd);
	given = (int)fd;
	return true;
}

/* criu unlocks the master that it has taken, and no other. */
void terminals_ioctl(unsigned long request, const void *arg)
{
	if (table && given && request == TIOCSPTLCK && !*(const int *)arg && n_taken < MASTERS_MAX) {
		taken[n_taken++] = given;
		given = 0;
	}
}

EXPORT int setsid(void);

int setsid(void)
{
	const char *p = table;
	char path[NAME_MAX], *end = path;
	long ret = raw_syscall(SYS_setsid, 0, 0, 0, 0, 0, 0), index, fd;

	if (ret < 0 || !table || (index = terminals_next(&p, 's')) < 0)
		return (int)errno_result(ret);
	preload_put(&end, "/dev/pts/");
	preload_put_number(&end, index);
	*end = '\0';
	fd = raw_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		return (int)errno_result(fd);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return (int)ret;
}
