/* Signals to the tasks of a step. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "launch/step.h"

/* Kills the descendants of a process, and the process itself unless it is the launcher. A parent dies before its
 * children are listed again, so that it cannot start others. */
static void kill_tree(pid_t pid, int depth)
{
	char path[64];
	int child;

	if (pid != getpid())
		kill(pid, SIGSTOP);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	{
		cleanup_file FILE *f = fopen(path, "re");

		while (f && depth < 64 && fscanf(f, "%d", &child) == 1)
			kill_tree(child, depth + 1);
	}
	if (pid != getpid())
		kill(pid, SIGKILL);
}

/* A task leads none yet for a moment after its start. */
static void step_signal_sessions(const struct step *s, int sig)
{
	for (int i = 0; s->tasks && i < s->place.ntasks; i++)
		if (s->tasks[i].pid && !s->tasks[i].ended && killpg(s->tasks[i].pid, sig))
			kill(s->tasks[i].pid, sig);
}

void step_signal(const struct step *s, int sig)
{
	if (s->group)
		killpg(s->group, sig);
	else
		step_signal_sessions(s, sig);
	if (sig == SIGKILL)
		kill_tree(getpid(), 0);
}
