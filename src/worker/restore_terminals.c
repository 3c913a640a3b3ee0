/* The terminals of a job that is being restored.
 *
 * criu makes a terminal when it restores the process that has its master open, long after the sessions. By then only a
 * session leader can still get a controlling terminal: its children, who inherit it at their fork, would have none. And
 * criu tries no more than 32 numbers for one. So they are made here, before criu starts: fsched-init keeps them open
 * until criu has ended, and the library in criu gives them to the restored processes (preload/terminals.c). */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>

#include "base/util.h"
#include "pod/pod.h"

#define MORE_FILES 64 /* for criu and fsched-init */

/* Any other name is left to criu. */
static bool is_ptmx(const char *name)
{
	return !strcmp(name, "/dev/ptmx") || !strcmp(name, "/dev/pts/ptmx");
}

/* Those that can be made here, each number once. */
static void terminals_keep_known(struct criu_terminals *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		bool good = is_ptmx(t->v[i].name);

		for (size_t k = 0; k < n; k++)
			good = good && t->v[k].index != t->v[i].index;
		if (good)
			t->v[n++] = t->v[i];
		else
			free(t->v[i].name);
	}
	t->n = n;
}

int restore_terminals_read(int criufd, struct criu_terminals *t, struct err *err)
{
	if (criu_terminals_read(criufd, t, err))
		return -1;
	terminals_keep_known(t);
	return 0;
}

/* "m3:512 m3:514 s4:0 ": the master at descriptor 512 of fsched-init is for process 3; /dev/pts/0 is the controlling
 * terminal of session 4. */
char *restore_terminals_env(const struct criu_terminals *t)
{
	char *env = xstrdup("FSCHED_TERMINALS=");

	for (size_t i = 0; i < t->n; i++) {
		char *before = env;

		env = xasprintf("%sm%d:%d ", before, t->v[i].owner, POD_TERMINALS_FD + 2 * (int)i);
		free(before);
		if (!t->v[i].leader)
			continue;
		before = env;
		env = xasprintf("%ss%d:%d ", before, t->v[i].leader, t->v[i].index);
		free(before);
	}
	return env;
}

static int terminals_allow_files(const struct criu_terminals *t, int highest, struct err *err)
{
	const rlim_t wanted = POD_TERMINALS_FD + 2 * t->n + (rlim_t)highest + MORE_FILES;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return err_sys(err, errno, "cannot read the limit of open files");
	if (l.rlim_cur >= wanted)
		return 0;
	l.rlim_cur = wanted;
	l.rlim_max = l.rlim_max < wanted ? wanted : l.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &l)
		       ? err_sys(err, errno, "cannot raise the limit of open files for the job's terminals")
		       : 0;
}

/* Prepares a master that has the right number, and puts it and, for a session, its slave at their descriptors. */
static int terminals_set_up(const struct criu_terminal *t, int fd, int at, struct err *err)
{
	const struct winsize size = { t->size[0], t->size[1], t->size[2], t->size[3] };
	cleanup_close int slave = -1;
	int unlocked = 0;

	/* criu sets it too. The same size once more makes no SIGWINCH for processes whose terminal it is by then. */
	if (ioctl(fd, TIOCSPTLCK, &unlocked) || ioctl(fd, TIOCSWINSZ, &size))
		return err_sys(err, errno, "cannot set up the terminal /dev/pts/%d of the job", t->index);
	if (dup3(fd, at, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot keep the terminal /dev/pts/%d of the job", t->index);
	if (!t->leader)
		return 0;
	/* While no process has the slave open, the kernel takes a controlling terminal away again. */
	slave = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || dup3(slave, at + 1, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot open the terminal /dev/pts/%d of the job", t->index);
	return 0;
}

static const struct criu_terminal *terminals_find(const struct criu_terminals *t, int index)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].index == index)
			return &t->v[i];
	return NULL;
}

/* Opens the masters in the order of their numbers: the kernel gives the lowest that is free, and those that the job
 * does not have are in use only meanwhile. */
static int terminals_open(const struct criu_terminals *t, int highest, struct err *err)
{
	cleanup_free int *unused = xcalloc((size_t)highest + 1, sizeof(*unused));
	int n = 0, rc = 0;

	for (int i = 0; i <= highest && rc == 0; i++) {
		const struct criu_terminal *x = terminals_find(t, i);
		const char *name = x ? x->name : t->v[0].name;
		int fd = open(name, (x ? (int)x->flags & (O_ACCMODE | O_NONBLOCK) : O_RDWR) | O_NOCTTY | O_CLOEXEC);
		int index = -1;

		if (fd < 0 || ioctl(fd, TIOCGPTN, &index))
			rc = err_sys(err, errno, "cannot make the terminal /dev/pts/%d of the job (%s)", i, name);
		else if (index != i)
			rc = err_set(err, EADDRINUSE, "the terminal of number %d is in use in the new pod", i);
		else if (x)
			rc = terminals_set_up(x, fd, POD_TERMINALS_FD + 2 * (int)(x - t->v), err);
		if (fd >= 0)
			unused[n++] = fd;
	}
	while (n > 0)
		close(unused[--n]);
	return rc;
}

int restore_terminals_make(const struct criu_terminals *t, const struct pod_cred *c, struct err *err)
{
	int highest = -1, rc;

	for (size_t i = 0; i < t->n; i++)
		highest = t->v[i].index > highest ? t->v[i].index : highest;
	if (highest < 0)
		return 0;
	if (terminals_allow_files(t, highest, err))
		return -1;
	/* The opener owns a terminal. In this process nobody else is affected by a change of the ids. */
	if (setgroups((size_t)c->n_groups, c->groups) || setegid(c->gid) || seteuid(c->uid))
		return err_sys(err, errno, "cannot act as the job's user");
	rc = terminals_open(t, highest, err);
	if (seteuid(0) || setegid(0))
		return err_sys(err, errno, "cannot be root again");
	return rc;
}
