/* The text format of Prometheus (version 0.0.4). */
#ifndef FSCHED_CLI_REPORT_METRICS_TEXT_H
#define FSCHED_CLI_REPORT_METRICS_TEXT_H

#include <stdio.h>
#include "cli/report/metrics_data.h"

void metrics_print(const struct metrics *m, FILE *out);

#endif
