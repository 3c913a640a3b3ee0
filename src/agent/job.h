/* What the agent's parts know of the job that they serve: its task, the configuration, its directory with record, log
 * and copies of the script and the leader. Nothing here knows in which phase the job is.
 *
 * The directory may be out of reach when the job starts, so it is opened when it can be: job_open_store() may be called
 * again after a failure. store_ok says whether it is open, and is cleared when the directory belongs to another agent.
 */
#ifndef FSCHED_AGENT_JOB_H
#define FSCHED_AGENT_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "agent/loop.h"
#include "agent/proc.h"
#include "agent/task.h"
#include "base/conf.h"
#include "base/err.h"
#include "base/status.h"
#include "policy/recovery.h"
#include "store/history.h"
#include "store/store.h"

struct job {
	struct loop *loop;
	char libexec[4096]; /* the directory of fsched's helper programs */
	struct task task;
	struct conf conf;
	bool conf_ok;         /* conf comes from the file; else it holds the defaults */
	struct store store;   /* dirfd -1 = not open */
	bool store_ok;        /* the directory is open, and rec is what its record says */
	bool dir_in_use;      /* by the process that keeps the lease: a failure to read the record must not close it */
	bool have_record;     /* the directory held a record before this start of the job */
	bool copies_saved;    /* script and leader are in the directory */
	int64_t continued_at; /* when the agent last got SIGCONT (now_us()), 0 = never */
	struct job_record rec;
	int64_t last_seen;          /* Unix: the last sign of life of the job's start before this one, 0 = not known */
	struct job_history history; /* what its file says, and what happened since */
	struct proc prune;
	int64_t began_us;       /* now_us() when the job began to run here, 0 = it does not */
	int64_t used_before;    /* s that it had run before that */
	int64_t every;          /* s: the interval at present, where it is INTERVAL_AUTO; 0 = none yet */
	unsigned steps_running; /* of srun, as of the last look (step_list.h) */
	bool shared_changed;    /* rec's sizes of shared epochs are newer than the file's */
};

/* Each of these returns 0, or -1 with err, and may be called again after a failure. */

/* Reads the configuration. On failure conf holds the defaults. */
int job_open_conf(struct job *j, struct err *err);
/* Opens the job's directory alone, and makes it if there is none. */
int job_open_dir(struct job *j, struct err *err);
/* Opens the directory, reads the record into rec, and removes epochs that are incomplete or not in the record. */
int job_open_store(struct job *j, struct err *err);
/* Writes rec. */
int job_save(struct job *j, struct err *err);
/* Copies script and leader into the directory. */
int job_save_copies(struct job *j, struct err *err);

/* The job runs here from now on: rec.used says for how long it had run before. Without this rec.used stays. */
void job_begin_run(struct job *j);
/* s for which it has run here, and in all: without the time lost by failures, in the queue and in restores. */
int64_t job_ran(const struct job *j);
int64_t job_used(const struct job *j);
/* It has not run at all, as far as job_used() goes. */
void job_reset_used(struct job *j);

/* Records intent, and the wait status of the script (-1 = it has none). Logs a failure. */
void job_set_ended(struct job *j, enum intent intent, int status);
void job_set_intent(struct job *j, enum intent intent); /* status -1 */
/* Writes one line to the agent's log and, when the directory is open, to the job's. */
void job_log(struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Adds e to rec, or replaces the entry of the same number, and removes from rec what CRIU_MaxEpochs does not keep. */
void job_add_epoch(struct job *j, const struct epoch_summary *e);
/* The epoch that was being written does not count beside those of rec any more (store/usage.h). */
void job_quota_end(const struct job *j);
/* Starts a child that removes the epochs which are no longer in rec. */
void job_prune(struct job *j);
/* Whether rec has an epoch of the present run: no other can be restored. */
bool job_has_epoch(const struct job *j);
/* Writes what rec says of the epochs of the present run into s. */
void job_describe_epochs(const struct job *j, struct status *s);

/* The job as the answer of `fsched-slurm get` describes it; ok: there is an answer. */
struct end_input job_end_input(const struct job *j, bool ok, const json_t *answer);

#endif
