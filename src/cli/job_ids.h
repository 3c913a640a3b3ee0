/* Job ids on the command line: "12", "12_3", "12_[1-3,7-9:2]", and comma lists of them. */
#ifndef FSCHED_CLI_JOB_IDS_H
#define FSCHED_CLI_JOB_IDS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define IDS_MAX     10000 /* more are refused as a typing error */
#define IDS_NO_TASK (-1)

struct job_ref {
	uint32_t id;  /* of the job; of the array if task is set */
	int64_t task; /* the task of the array, or IDS_NO_TASK */
};

/* Appends the jobs that text names to *refs, which grows; each is kept once. text comes from a user. 0, or -1 with err
 * and *refs unchanged. The caller frees *refs. */
int ids_parse(const char *text, struct job_ref **refs, size_t *n, struct err *err);

/* Writes "12" or "12_3" to buf, of at least 32 bytes. Returns buf. */
char *ids_format(const struct job_ref *r, char *buf, size_t len);

#endif
