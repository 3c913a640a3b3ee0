/* removed.json in JobCheckpointDir: the sum of the tallies (history.h) of all jobs whose directories were removed.
 * Without it the counters of `fsched metrics' would fall when epochs are pruned, which Prometheus takes for a restart
 * and counts anew. Root alone reads and writes it. */
#ifndef FSCHED_STORE_REMOVED_H
#define FSCHED_STORE_REMOVED_H

#include "store/history.h"

/* Call it before the directory base/name of a job is removed: adds its tally. A directory without history adds nothing.
 * 0, or -1 with err. A second call for the same job in a row adds nothing either, in case the removal failed. */
int removed_add(const char *base, const char *name, struct err *err);
/* The sum. skip gets the uuid of the job that was added last, 40 bytes: if it is still there, it is not to be counted
 * again. 0, or -1 with err; no file is an empty sum. */
int removed_load(const char *base, struct history_tally *sum, char *skip, struct err *err);

#endif
