/* What `fsched metrics` prints, as numbers. */
#ifndef FSCHED_CLI_REPORT_METRICS_DATA_H
#define FSCHED_CLI_REPORT_METRICS_DATA_H

#include "base/conf.h"
#include "store/history.h"
#include "store/proofs.h"

struct metrics_user {
	char name[64];
	unsigned jobs, epochs;
	uint64_t bytes;
};

struct metrics_job { /* one that runs */
	uint32_t id;
	char user[64], node[256];
	unsigned epoch;     /* the last one that can be restored; 0 = there is none */
	int64_t epoch_time; /* Unix */
};

struct metrics {
	int64_t now; /* Unix */
	struct history_tally tally;
	unsigned states[INTENT_DONE + 1]; /* jobs by the state of their record */
	unsigned unreadable, unprotected; /* records that are damaged; running jobs without an epoch */
	unsigned proved, disproved;       /* epochs on disk that a restore on trial has restored, or not */
	struct metrics_user *users;
	size_t n_users, users_room;
	struct metrics_job *jobs;
	size_t n_jobs, jobs_room;
};

/* Reads JobCheckpointDir: to root all of it, to others their own jobs. 0, or -1 with err. The caller frees with
 * metrics_free() in any case. */
int metrics_collect(const struct conf *c, struct metrics *m, struct err *err);
void metrics_free(struct metrics *m);

/* Adds one job, for metrics_collect() and its test. running: it has a lease that is renewed. */
void metrics_add(struct metrics *m, const struct job_record *r, const struct job_history *h, bool running);
/* Adds what is known of the epochs of a job by restores on trial. p: NULL = nothing. */
void metrics_add_proofs(struct metrics *m, const struct job_record *r, const struct proofs *p);

#endif
