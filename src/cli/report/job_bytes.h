/* How much of the disk the epochs of a job take. */
#ifndef FSCHED_CLI_REPORT_JOB_BYTES_H
#define FSCHED_CLI_REPORT_JOB_BYTES_H

#include "store/store.h"

/* Bytes on disk, from the record: files that epochs share are counted once, as far as the record tells. */
uint64_t job_bytes_kept(const struct job_record *r);
/* What `fsched prune --keep 1` would free of it. */
uint64_t job_bytes_prunable(const struct job_record *r);

#endif
