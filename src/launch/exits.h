/* How the tasks ended: the messages of srun, and its exit status. */
#ifndef FSCHED_LAUNCH_EXITS_H
#define FSCHED_LAUNCH_EXITS_H

#include <stdbool.h>

struct exits {
	const char *node;
	int status;     /* wait status that counts most so far */
	bool signaled;  /* a task ended by SIGTERM or SIGKILL */
	bool cancelled; /* the step is being ended: say less */
	bool few;       /* SLURM_SRUN_REDUCE_TASK_EXIT_MSG */
	bool said;
	int last; /* wait status */
};

void exits_begin(struct exits *e, const char *node);
/* Tells of the tasks (ascending ids) that ended with the same wait status. */
void exits_tell(struct exits *e, const int *tasks, int n, int status);
/* The launcher's exit status. */
int exits_code(const struct exits *e);
/* "0-2,5", of ascending ids. The caller frees. */
char *exits_ids(const int *tasks, int n);

#endif
