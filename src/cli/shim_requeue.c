#include "cli/shim_requeue.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/inside.h"
#include "cli/job_ids.h"

static long env_number(const char *name)
{
	const char *text = getenv(name);

	return text && *text ? strtol(text, NULL, 10) : -1;
}

static bool is_own(const struct job_ref *ref, uint32_t job)
{
	if (ref->id == job && ref->task == IDS_NO_TASK)
		return true;
	return ref->id == env_number("SLURM_ARRAY_JOB_ID") &&
	       (ref->task == IDS_NO_TASK || ref->task == env_number("SLURM_ARRAY_TASK_ID"));
}

/* Arguments that are no job ids, such as "State=SpecialExit", are for scontrol. */
bool shim_requeues_itself(int argc, char **argv)
{
	cleanup_free struct job_ref *refs = NULL;
	const uint32_t job = inside_job();
	size_t n = 0;

	for (int i = 0; job && i < argc; i++)
		ids_parse(argv[i], &refs, &n, NULL);
	for (size_t i = 0; i < n; i++)
		if (is_own(&refs[i], job))
			return true;
	return false;
}

/* The shim is installed as <libexec>/bin/scontrol, and fsched-slurm as <libexec>/fsched-slurm. */
static char *find_fsched_slurm(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *path;

	if (n > 0) {
		self[n] = '\0';
		path = xasprintf("%.*s/../fsched-slurm", (int)(strrchr(self, '/') - self), self);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return xstrdup(FSCHED_LIBEXECDIR "/fsched-slurm");
}

/* The wait status of a child, or -1. */
static int wait_for(pid_t pid)
{
	int status;

	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return pid > 0 ? status : -1;
}

static int run_fsched_slurm(const char *op)
{
	cleanup_free char *path = find_fsched_slurm();
	char name[] = "fsched-slurm", id[16];
	char *argv[] = { name, (char *)(uintptr_t)op, id, NULL };
	pid_t pid;

	snprintf(id, sizeof(id), "%u", inside_job());
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (null >= 0)
			dup2(null, STDOUT_FILENO);
		execv(path, argv);
		fprintf(stderr, "scontrol: cannot run %s: %s\n", path, strerror(errno));
		_exit(127);
	}
	return wait_for(pid);
}

int shim_requeue_itself(int (*scontrol)(char **argv), char **argv)
{
	int status;
	pid_t pid;

	if (run_fsched_slurm("start-over") != 0) {
		fprintf(stderr,
			"scontrol: the job is not requeued: it could not be noted that it is to start over, and without "
			"that it would continue from its newest checkpoint\n");
		return 1;
	}
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(scontrol(argv));
	status = wait_for(pid);
	if (status != 0 && run_fsched_slurm("start-over-not") != 0)
		fprintf(stderr, "scontrol: the job is still noted to start over, at whatever requeues it next: remove "
				"fsched-restart=none from its Comment (scontrol update)\n");
	return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
