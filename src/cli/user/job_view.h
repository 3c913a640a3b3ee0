/* What is known of a job's epochs: from its checkpoint directory as far as the caller may read it, else from its
 * Checkpoint entry. */
#ifndef FSCHED_CLI_USER_JOB_VIEW_H
#define FSCHED_CLI_USER_JOB_VIEW_H

#include <stdbool.h>
#include "cli/user/job_ids.h"
#include "base/conf.h"
#include "slurm/rpc/slurm_rpc.h"
#include "store/manifest.h"
#include "store/store.h"

/* Slurm's ESLURM_INVALID_JOB_ID, in err.num when slurmctld does not know the job (any longer). */
#define VIEW_UNKNOWN_JOB 2017

struct view {
	uint32_t id;
	char label[64]; /* "12_3" */

	bool on_disk;       /* rec and log hold */
	struct store store; /* open for root only; path holds */
	struct job_record rec;
	char log[4096];      /* path of checkpoint.log, or of the caller's copy of it */
	struct err disk_err; /* why not */
	bool sees_disk;      /* root where JobCheckpointDir is: what is not found there is not there */

	bool in_slurm; /* job holds */
	struct slurm_job job;
	struct err slurm_err; /* why not */

	bool enabled; /* status holds */
	struct status status;
	bool foreign; /* the directory is of another job that had the id */
};

/* Never fails: what is missing says why. The caller frees with view_free(). */
struct view *view_load(const struct conf *c, uint32_t id);
void view_free(struct view *v);

/* Job ids of what was named on the command line; arrays and tasks are looked up in Slurm. Appends to *ids. 0 or -1. */
int view_resolve(const struct job_ref *refs, size_t n, uint32_t **ids, size_t *n_ids, struct err *err);

/* The table of its epochs on standard output. 0, or -1 when nothing is known (err says why). */
int view_print_epochs(const struct view *v, struct err *err);
/* One epoch in detail. */
int view_print_epoch(const struct view *v, unsigned epoch, struct err *err);

/* Text of a time, "-" for 0. buf of at least 24 bytes. */
const char *view_time(int64_t t, char *buf, size_t len);

#endif
