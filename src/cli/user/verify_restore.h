/* fsched verify --restore: proves an epoch by a real restore, which fsched-worker makes and throws away. */
#ifndef FSCHED_CLI_USER_VERIFY_RESTORE_H
#define FSCHED_CLI_USER_VERIFY_RESTORE_H

#include <stdbool.h>

#include <jansson.h>

#include "base/conf.h"
#include "base/err.h"
#include "store/store.h"

struct verify_restore {
	const struct conf *conf;
	const struct store *store;
	unsigned epoch;   /* 0: the newest that a restart would take */
	unsigned seconds; /* for which the restored job runs, 0 = it does not */
	bool signed_;     /* the epoch is a job's */
};

/* Proves r->epoch, and sets it if it is 0. Prints warnings. *result: what fsched-worker has found, owned by the caller;
 * NULL if it was not asked. 0, or -1 with err; *recorded: the failure is that of the epoch. */
int verify_restore(struct verify_restore *r, json_t **result, bool *recorded, struct err *err);

#endif
