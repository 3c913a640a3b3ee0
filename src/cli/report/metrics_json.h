/* fsched metrics --json, as docs/json.md documents it. */
#ifndef FSCHED_CLI_REPORT_METRICS_JSON_H
#define FSCHED_CLI_REPORT_METRICS_JSON_H

#include <jansson.h>
#include "cli/report/metrics_data.h"

/* The caller owns it. */
json_t *metrics_json(const struct metrics *m);

#endif
