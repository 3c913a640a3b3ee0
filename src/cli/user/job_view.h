/* What is known of the epochs of a job: from its checkpoint directory if the caller may read it, else from its
 * Checkpoint entry. */
#ifndef FSCHED_CLI_USER_JOB_VIEW_H
#define FSCHED_CLI_USER_JOB_VIEW_H

#include <stdbool.h>
#include "cli/job_ids.h"
#include "base/conf.h"
#include "slurm/rpc/slurm_rpc.h"
#include "store/manifest.h"
#include "store/store.h"

/* ESLURM_INVALID_JOB_ID of Slurm: err.num of a job that slurmctld does not know or has forgotten. */
#define VIEW_UNKNOWN_JOB 2017

struct view {
	uint32_t id;
	char label[64]; /* "12_3" */

	bool on_disk;       /* rec and log are valid */
	struct store store; /* open for root only; its path is valid */
	struct job_record rec;
	char log[4096];      /* path of checkpoint.log, or of the caller's copy of it */
	struct err disk_err; /* why not */
	bool sees_disk; /* the caller is root and JobCheckpointDir exists here: what is not found there does not exist
			 */

	bool in_slurm; /* job is valid */
	struct slurm_job job;
	struct err slurm_err; /* why not */

	bool enabled; /* status is valid */
	struct status status;
	bool foreign; /* the directory belongs to another job that had the same id */
};

/* Never fails: disk_err and slurm_err say why something is missing. The caller frees with view_free(). */
struct view *view_load(const struct conf *c, uint32_t id);
void view_free(struct view *v);

/* Sets *ids to the job ids of refs; the caller frees it, after an error too. Arrays and tasks are looked up in Slurm.
 * 0, or -1 with err. */
int view_resolve(const struct job_ref *refs, size_t n, uint32_t **ids, size_t *n_ids, struct err *err);

/* Prints the table of the epochs on standard output. 0, or -1 with err: nothing is known. */
int view_print_epochs(const struct view *v, struct err *err);
/* Prints one epoch in detail. 0, or -1 with err: the epoch is not known. */
int view_print_epoch(const struct view *v, unsigned epoch, struct err *err);

/* Loads the manifest of an epoch, which the caller frees. False: err says why, for example that the caller may not read
 * it. */
bool view_load_manifest(const struct view *v, unsigned epoch, struct manifest *m, struct err *err);
/* The record's entry of an epoch; NULL: there is none, or the record cannot be read. */
const struct epoch_summary *view_find_epoch(const struct view *v, unsigned epoch);

/* Formats a Unix time; 0 becomes "-". buf: at least 24 bytes. */
const char *view_time(int64_t t, char *buf, size_t len);

#endif
