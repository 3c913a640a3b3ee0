/* Points in time on the command line, in forms that Slurm's commands take too. */
#ifndef FSCHED_CLI_REPORT_SINCE_H
#define FSCHED_CLI_REPORT_SINCE_H

#include <stdint.h>

/* "2026-11-30", "2026-11-30T18:00[:00]" (local time), "today", "now-7days" (seconds, minutes, hours, days, weeks, or
 * the singular). 0 with *t (Unix), or -1. */
int since_parse(const char *text, int64_t now, int64_t *t);

#endif
