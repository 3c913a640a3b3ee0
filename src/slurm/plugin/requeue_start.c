#include "slurm/plugin/requeue_start.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>

/* slurmctld's configuration in memory; weak, so that a Slurm that hides it still loads the plugin. */
extern slurm_conf_t slurm_conf __attribute__((weak));

#define PROGRAM "fsched-requeue"
#define UP_MAX  5 /* directories between a plugin and its prefix */

/* slurmctld's end of the pipe; the plugin API has no place for state. */
static int alive = -1;

/* Where fsched is installed is known at build time, unless the whole tree was put somewhere else: then it is beside
 * this plugin. */
static int find_program(char *path, size_t len)
{
	Dl_info self;
	char dir[PATH_MAX];
	char *slash;

	if (dladdr((void *)requeue_start, &self) && self.dli_fname && self.dli_fname[0] == '/') {
		snprintf(dir, sizeof(dir), "%s", self.dli_fname);
		for (int i = 0; i < UP_MAX && (slash = strrchr(dir, '/')) && slash > dir; i++) {
			*slash = '\0';
			if ((size_t)snprintf(path, len, "%s/libexec/fsched/" PROGRAM, dir) < len &&
			    access(path, X_OK) == 0)
				return 0;
		}
	}
	snprintf(path, len, "%s/" PROGRAM, FSCHED_LIBEXECDIR);
	return access(path, X_OK);
}

/* In a fork of a process with threads: system calls only. Forks once more, so that slurmctld has no child to wait for.
 */
static _Noreturn void become(const char *path, int fd)
{
	char number[16], name[] = PROGRAM;
	char *argv[] = { name, number, &slurm_conf ? slurm_conf.slurm_conf : NULL, NULL };
	sigset_t none;
	int null;

	if (fork() != 0)
		_exit(0);
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	fd = dup2(fd, 3);
	close_range(4, ~0U, 0);
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	if (null > 3)
		close(null);
	snprintf(number, sizeof(number), "%d", fd);
	execv(path, argv);
	_exit(127);
}

void requeue_start(void)
{
	char path[PATH_MAX];
	int ends[2];
	pid_t pid;

	if (alive >= 0)
		return;
	if (find_program(path, sizeof(path))) {
		slurm_error("job_submit/fsched: " PROGRAM
			    " is not installed: jobs of failed nodes wait for cred_expire before they start again");
		return;
	}
	if (pipe2(ends, O_CLOEXEC) < 0) {
		slurm_error("job_submit/fsched: cannot start " PROGRAM ": %s", strerror(errno));
		return;
	}
	pid = fork();
	if (pid == 0)
		become(path, ends[0]);
	close(ends[0]);
	if (pid < 0) {
		slurm_error("job_submit/fsched: cannot start " PROGRAM ": %s", strerror(errno));
		close(ends[1]);
		return;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	alive = ends[1];
}

void requeue_stop(void)
{
	if (alive >= 0)
		close(alive);
	alive = -1;
}
