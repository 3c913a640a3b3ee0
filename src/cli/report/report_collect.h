/* Finds the jobs of a report in JobCheckpointDir, and their names and states in Slurm. */
#ifndef FSCHED_CLI_REPORT_REPORT_COLLECT_H
#define FSCHED_CLI_REPORT_REPORT_COLLECT_H

#include "base/conf.h"
#include "cli/report/report_data.h"

struct report_select {
	const uint32_t *ids; /* n_ids 0: all */
	size_t n_ids;
	bool of_user; /* only jobs of uid; else all that the caller may see */
	uid_t uid;
	int64_t since; /* jobs with an event since then; 0: all */
};

/* 0, or -1 with err: the directory cannot be read, or a job of ids is not there or is hidden. The caller frees with
 * report_free() in any case. */
int report_collect(const struct conf *c, const struct report_select *s, struct report *r, struct err *err);

#endif
