#include "launch/exits.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/util.h"
#include "launch/say.h"

void exits_begin(struct exits *e, const char *node)
{
	const char *few = getenv("SLURM_SRUN_REDUCE_TASK_EXIT_MSG");

	*e = (struct exits){ .node = node, .few = few && atoi(few) != 0 };
}

char *exits_ids(const int *tasks, int n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int i, from;

	if (!out)
		abort();
	for (i = 0; i < n; i++) {
		from = i;
		while (i + 1 < n && tasks[i + 1] == tasks[i] + 1)
			i++;
		fprintf(out, "%s%d", from ? "," : "", tasks[from]);
		if (i > from)
			fprintf(out, "-%d", tasks[i]);
	}
	fclose(out);
	return text;
}

/* The highest exit code counts; a signal counts more, and of signals the highest. */
static void exits_count(struct exits *e, int status)
{
	if (WIFSIGNALED(status)) {
		e->signaled |= WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGKILL;
		if (!WIFSIGNALED(e->status) || WTERMSIG(status) > WTERMSIG(e->status))
			e->status = status;
	} else if (!WIFSIGNALED(e->status) && WEXITSTATUS(status) > WEXITSTATUS(e->status)) {
		e->status = status;
	}
}

void exits_tell(struct exits *e, const int *tasks, int n, int status)
{
	cleanup_free char *ids = exits_ids(tasks, n);
	const char *noun = n == 1 ? "task" : "tasks";
	const bool again = e->few && e->said && status == e->last;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		say_verbose("launch/slurm: _task_finish: %s: %s %s: Completed", e->node, noun, ids);
	} else if (WIFEXITED(status)) {
		if (!again)
			say_error("%s: %s %s: Exited with exit code %d", e->node, noun, ids, WEXITSTATUS(status));
		e->said = true;
	} else if (e->cancelled) {
		say_verbose("%s: %s %s: %s", e->node, noun, ids, strsignal(WTERMSIG(status)));
	} else {
		if (!again)
			say_error("%s: %s %s: %s%s", e->node, noun, ids, strsignal(WTERMSIG(status)),
				  WCOREDUMP(status) ? " (core dumped)" : "");
		e->said = true;
	}
	e->last = status;
	exits_count(e, status);
}

int exits_code(const struct exits *e)
{
	return WIFSIGNALED(e->status) ? 128 + WTERMSIG(e->status) : WEXITSTATUS(e->status);
}
