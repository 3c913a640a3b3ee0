/* What the steps of a job have done: a file of the pod's /dev/shm, which the launchers (launch) write under the lock of
 * their table, and the agent reads. It belongs to the job's user, who may write anything into it. It is part of every
 * checkpoint, so it says after a restore what it said at the checkpoint. */
#ifndef FSCHED_BASE_STEP_FILE_H
#define FSCHED_BASE_STEP_FILE_H

#include <stdint.h>

#define STEP_FILE_NAME  ".fsched-steps-ended"
#define STEP_FILE_MAGIC 0x31455046U /* another layout has another magic */
#define STEP_FILE_KEPT  100         /* of the steps that have ended, the last ones */

struct step_file_header {
	uint32_t magic;
	uint32_t running; /* as of when a step began or ended last */
	uint64_t ended, failed;
};

struct step_file_entry {
	int64_t began, ended; /* Unix time */
	int32_t step, ntasks;
	int32_t status;    /* wait status that stands for all tasks */
	uint32_t reserved; /* 0 */
	uint64_t max_rss;  /* KiB, of the largest process */
	char name[48];     /* may have any bytes */
};

/* Step number n, counted from 0 by the order of their ends, is entry n modulo STEP_FILE_KEPT. */
struct step_file {
	struct step_file_header head;
	struct step_file_entry v[STEP_FILE_KEPT];
};

#endif
