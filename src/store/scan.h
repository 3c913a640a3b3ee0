/* Goes through the directories of all jobs below JobCheckpointDir. */
#ifndef FSCHED_STORE_SCAN_H
#define FSCHED_STORE_SCAN_H

#include "store/store.h"

struct scan_job {
	const struct job_record *record; /* NULL: it cannot be read */
	const char *path;                /* of the job's directory */
	const char *name;                /* of that below base */
	bool copy;                       /* the record is the owner's copy, since the caller is not root */
	bool aside;                      /* an older job whose id Slurm has used again: "<job_id>.<uuid>" */
};

struct scan_result {
	unsigned hidden;  /* directories that the caller may not read */
	unsigned damaged; /* whose record cannot be read for another reason */
};

/* Calls fn for each, in the order of the job ids; unreadable: also for those whose record cannot be read. A false
 * result of fn ends the scan. 0, or -1 with err: base cannot be read. */
int store_scan(const char *base, bool unreadable, bool (*fn)(const struct scan_job *j, void *arg), void *arg,
	       struct scan_result *result, struct err *err);

#endif
