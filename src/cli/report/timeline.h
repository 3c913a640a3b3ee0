/* The time line of a job: where it ran, its epochs, failures and restores. */
#ifndef FSCHED_CLI_REPORT_TIMELINE_H
#define FSCHED_CLI_REPORT_TIMELINE_H

#include <stdio.h>
#include "cli/report/report_data.h"

/* The span of time that the page shows of a job. *to > *from. */
void timeline_span(const struct report_job *j, int64_t since, int64_t now, int64_t *from, int64_t *to);
void timeline_print(FILE *out, const struct report_job *j, int64_t since, int64_t now);

/* What happened, for people: "epoch 3 (periodic)", "restore of epoch 3 failed". buf: 96 bytes. Returns buf. */
char *timeline_say(const struct history_event *e, char buf[96]);

#endif
