/* fsched list --json. */
#ifndef FSCHED_CLI_USER_LIST_JSON_H
#define FSCHED_CLI_USER_LIST_JSON_H

#include <stddef.h>
#include <stdint.h>
#include "base/conf.h"

/* Prints the epochs of these jobs, or with n = 0 all jobs of JobCheckpointDir that the caller may see. Returns the exit
 * status. */
int list_json(const struct conf *c, const uint32_t *ids, size_t n);

#endif
