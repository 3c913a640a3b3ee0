/* What is known of a job, as JSON: for `fsched show --json` and `fsched list ID --json`. docs/json.md has the members.
 */
#ifndef FSCHED_CLI_USER_JOB_JSON_H
#define FSCHED_CLI_USER_JOB_JSON_H

#include <jansson.h>
#include "cli/user/job_view.h"

/* The caller owns the results. NULL with err if nothing is known of the job, or of the epoch. */
json_t *job_json(const struct view *v, struct err *err);
/* label, job_id and epochs alone */
json_t *job_json_epochs(const struct view *v, struct err *err);
json_t *job_json_epoch(const struct view *v, unsigned epoch, struct err *err);

#endif
