/* What the epochs of all jobs take, by user: for the quotas CheckpointMaxBytesUser and CheckpointMaxBytes.
 *
 * A file for each job says it, so that the sum costs neither a walk through epochs nor reading records:
 *
 *   <JobCheckpointDir>/usage/   root 0711
 *     <uid>/                    root 0700
 *       <job>                   0600, empty; its size in KiB is what the job's epochs take (record_bytes())
 *       <job>.writing           the same of the epoch that is being written: what it was expected to take
 *     told.<uid>                0400, the user's own: what `sbatch' tells him (base/usage_told.h). Root never reads it.
 *
 * Job is the name of the job's directory. One agent at a time writes a job's files, and each is set, never added to, so
 * that nothing has to be locked and a process that dies leaves no error in a sum. Only root can change them. The first
 * checkpoint under a quota makes the directory from the records of all jobs (usage_prepare()); from then on
 * store_save_record() keeps it up to date.
 *
 * Two checkpoints that are measured at the same time both count: one of them, or both, may be refused, but never do
 * both pass a quota that has room for one.
 *
 * base: JobCheckpointDir. Functions that return int return 0, or -1 with err.
 */
#ifndef FSCHED_STORE_USAGE_H
#define FSCHED_STORE_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

struct usage {
	uint64_t user, all; /* bytes, with what is being written */
};

/* Makes usage/ if it is not there. */
int usage_prepare(const char *base, struct err *err);
/* Adds up. */
int usage_sum(const char *base, uid_t uid, struct usage *u, struct err *err);
/* Forgets jobs whose directories are gone: of the user, or of all users. Directories may be removed by any means. */
void usage_forget_gone(const char *base, uid_t uid, bool all);

/* From now on the job counts with so many bytes more, until usage_end(). */
int usage_begin(const char *base, uid_t uid, const char *job, uint64_t bytes, struct err *err);
void usage_end(const char *base, uid_t uid, const char *job);

/* Writes told.<uid>. need: what a checkpoint that has been refused for a quota would have taken, else 0. Errors are
 * ignored. */
void usage_tell(const char *base, uid_t uid, const struct usage *u, uint64_t need);
/* Epochs or whole directories were removed: forgets those that are gone, and tells all users who were told before. */
void usage_pruned(const char *base);

#endif
