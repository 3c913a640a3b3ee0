/* fsched prune by others than root: the owner of a job cannot remove its epochs, which are root's, but can ask root to.
 */
#ifndef FSCHED_CLI_USER_PRUNE_REQUEST_H
#define FSCHED_CLI_USER_PRUNE_REQUEST_H

#include <stdbool.h>
#include "cli/user/job_view.h"

/* Asks for the removal of all that is kept of a job that has ended, or, with dry_run, says that it would. 0, or -1 with
 * err. */
int prune_request(const struct view *v, const struct conf *c, bool dry_run, struct err *err);
/* Says when that is carried out. */
void prune_request_explain(void);

#endif
