/* Compares the results of a run with those of the first one, as the options say. */
#ifndef FSCHED_CLI_QUALIFY_COMPARE_RUNS_H
#define FSCHED_CLI_QUALIFY_COMPARE_RUNS_H

#include "cli/qualify/session.h"

/* Sets run->compared and run->differences. 0; -1 with err: they could not be compared. */
int compare_runs(struct session *s, struct qualify_run *run, struct err *err);

#endif
