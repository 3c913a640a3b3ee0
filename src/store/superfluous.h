/* Removes what is kept of jobs that have ended and that nobody wants any more, to make room under a quota
 * (CheckpointQuotaPrune). `fsched prune' does the same when an administrator runs it, and asks Slurm; this does not,
 * and is more careful: the record must say that the script ended, and nobody may hold the job's lease. */
#ifndef FSCHED_STORE_SUPERFLUOUS_H
#define FSCHED_STORE_SUPERFLUOUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct superfluous {
	const char *base;   /* JobCheckpointDir */
	uid_t uid;          /* of this user, */
	bool all;           /* or of all users */
	unsigned keep_days; /* CheckpointKeepDays: those that ended so long ago, too; 0: only those whose owner has
			       asked */
	uint64_t bytes;     /* stops when so much was removed */
	/* Called for each job that was removed. */
	void (*removed)(void *arg, const char *job, uint64_t bytes);
	void *arg;
};

/* The oldest job ids first. Returns the bytes that were removed. */
uint64_t superfluous_remove(const struct superfluous *s);

#endif
