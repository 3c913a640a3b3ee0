/* --multi-prog: a file that says which task runs what. */
#ifndef FSCHED_LAUNCH_MULTI_PROG_H
#define FSCHED_LAUNCH_MULTI_PROG_H

#include <stdbool.h>

struct multi_prog {
	char ***of_task; /* the words of each task, NULL-terminated */
	int ntasks;
};

/* Reads the file argv[0]; the other words follow those of each program. fixed: the number of tasks was given; else the
 * file may name more. Ends the program as srun does if something is wrong. Returns the number of tasks. */
int multi_prog_read(struct multi_prog *m, char *const *argv, int ntasks, bool fixed);

#endif
