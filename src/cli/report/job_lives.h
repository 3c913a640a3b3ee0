/* Whether a job runs, by its directory alone. */
#ifndef FSCHED_CLI_REPORT_JOB_LIVES_H
#define FSCHED_CLI_REPORT_JOB_LIVES_H

#include <stdbool.h>
#include "base/conf.h"
#include "store/scan.h"

/* The record of a job whose node has failed still says that it runs, but its lease is not renewed. now: Unix. */
bool job_lives(const struct scan_job *j, const struct conf *c, int64_t now);

#endif
