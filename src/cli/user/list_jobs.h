/* `fsched list` without job ids: what is kept in JobCheckpointDir, of which jobs. */
#ifndef FSCHED_CLI_USER_LIST_JOBS_H
#define FSCHED_CLI_USER_LIST_JOBS_H

#include <stdbool.h>
#include "base/conf.h"

/* Prints a row for each job whose record the caller can read, by job id, and the sums. all: only for root; also
 * directories that were set aside or have no record, and first the jobs that have ended, the largest first. Returns the
 * exit status of the command. */
int list_jobs(const struct conf *c, bool all);

#endif
