/* steps.json of a job's directory: what its steps have done, as of when the agent looked last. The job's user may have
 * made it up. */
#ifndef FSCHED_STORE_STEPS_H
#define FSCHED_STORE_STEPS_H

#include "base/step_file.h"
#include "store/store.h"

struct step_summary {
	int64_t began, ended; /* Unix time */
	int step, ntasks, status;
	uint64_t max_rss; /* KiB */
	char name[48];    /* printable */
};

struct job_steps {
	unsigned running;
	int64_t ended, failed; /* in all */
	unsigned n;
	struct step_summary v[STEP_FILE_KEPT]; /* the last ones, oldest first */
};

/* Takes what is plausible in len bytes of the launchers' file. */
void steps_take(struct job_steps *s, const void *file, size_t len);

/* Writes steps.json and the owner's copy. 0, or -1 with err. */
int steps_save(const struct store *store, uid_t owner, const struct job_steps *s, struct err *err);
/* Removes both. */
void steps_remove(const struct store *store);
/* Reads steps.json for root, or the owner's copy. path: that of the job's directory. 0; -1 with err: ENOENT if no step
 * has ended yet. */
int steps_load(const char *path, bool copy, struct job_steps *s, struct err *err);

#endif
