/* Which jobs `fsched prune` without job ids is for: directories of jobs that have ended, by their owner, age and size.
 */
#ifndef FSCHED_CLI_USER_PRUNE_SELECT_H
#define FSCHED_CLI_USER_PRUNE_SELECT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/conf.h"
#include "base/err.h"

struct prune_select {
	const char *user; /* name or uid of the owner, NULL = any */
	int64_t days;     /* since the last event of the job; -1 = any */
	bool asked;       /* those whose owner has asked for it; with days: these too */
	uint64_t bytes;   /* of all its epochs, at least */
};

/* Sets *ids to the jobs with a directory that fit, for others than root only their own, ascending; the caller frees it.
 * Whether they have ended is not looked at. 0, or -1 with err. */
int prune_select(const struct conf *c, const struct prune_select *p, uint32_t **ids, size_t *n, struct err *err);
/* "10G", "500M": 0, or -1: it is no size. */
int prune_parse_size(const char *text, uint64_t *bytes);

#endif
