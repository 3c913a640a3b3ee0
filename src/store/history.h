/* history.json of a job's directory: what has happened to the job's checkpoints since its first start. It holds counts
 * of everything and the last events in order. The record (store.h) describes what is on disk now; this describes what
 * was, also of epochs that have been removed. `fsched metrics` and `fsched report` read it.
 *
 * The file has a bounded size: HISTORY_EVENTS events and HISTORY_REASONS reasons. An event that repeats the one before
 * only raises its count.
 */
#ifndef FSCHED_STORE_HISTORY_H
#define FSCHED_STORE_HISTORY_H

#include "store/store.h"

#define HISTORY_EVENTS  500
#define HISTORY_REASONS 32 /* different ones; others are counted as "other" */
#define HISTORY_BUCKETS 13 /* of the freeze histogram, without +Inf */

/* Upper bounds of the buckets, us, ascending. */
extern const int64_t history_bounds_us[HISTORY_BUCKETS];

enum history_kind {
	HISTORY_STARTED, /* from the beginning */
	HISTORY_EPOCH,   /* a checkpoint was made */
	HISTORY_FAILED,  /* a checkpoint failed */
	HISTORY_REFUSED, /* a checkpoint was not begun, because a restore could not bring the job back */
	HISTORY_SKIPPED, /* scheduled checkpoints were skipped for load */
	HISTORY_RESTORED,
	HISTORY_RESTORE_FAILED, /* of one epoch on one node */
	HISTORY_MOVED,          /* given back to Slurm for another node */
	HISTORY_HELD,           /* not started, held in Slurm's queue */
	HISTORY_LEFT,           /* saved, and off its node */
	HISTORY_ENDED,
	HISTORY_KINDS
};
const char *history_kind_name(enum history_kind k);

struct history_event {
	int64_t time;  /* Unix; of an epoch the start of the freeze */
	int64_t until; /* Unix: of the last repetition; = time if there is none */
	unsigned times;
	enum history_kind kind;
	unsigned epoch, run;
	char trigger[16]; /* of a checkpoint: periodic, create, vacate ... */
	char node[64];
	char reason[200]; /* printable, "" = none */
	/* of an epoch: */
	uint64_t bytes, written; /* written: without what it shares with older epochs */
	int64_t frozen_us, total_us;
	int64_t used; /* s for which the run had run */
	/* of a restore: total_us, used, and */
	int64_t seen; /* Unix: last sign of life of the start before, 0 = not known */
	int64_t lost; /* struct history_work */
};

struct history_count {
	char name[32];
	uint64_t n;
};
struct history_counts {
	unsigned n;
	struct history_count v[HISTORY_REASONS];
};

struct history_tally {
	struct history_counts made;            /* by trigger */
	struct history_counts failed, refused; /* by reason, see policy/reason.h */
	uint64_t skipped;
	uint64_t frozen[HISTORY_BUCKETS + 1];  /* freezes in each bucket, not cumulative; the last is +Inf */
	uint64_t frozen_us, total_us, written; /* sums */
	struct history_counts restores;        /* by outcome: ok, failed, moved, started_over, held */
	uint64_t restore_us;                   /* of those that succeeded */
	uint64_t saved, lost;                  /* s, see struct history_work */
	uint64_t lease_late;                   /* renewals that came too late to be on time, and in time to count */
};

struct job_history {
	struct history_tally tally;
	unsigned n;
	struct history_event v[HISTORY_EVENTS]; /* oldest first */
};

/* Adds n to the entry of this name, or to "other" if there is no room. */
void history_count(struct history_counts *c, const char *name, uint64_t n);
uint64_t history_counted(const struct history_counts *c, const char *name); /* 0 = never */
uint64_t history_sum(const struct history_counts *c);
/* Counts one freeze. */
void history_count_freeze(struct history_tally *t, int64_t us);
/* Adds all of `from`, for a sum over jobs. */
void history_tally_add(struct history_tally *to, const struct history_tally *from);

/* Appends an event. times, until and run-time members that are 0 are set; texts are made printable. If it repeats the
 * last event (same kind, trigger, node and reason; never an epoch or a restore), that is counted instead. The oldest
 * event goes when there is no room. */
void history_add(struct job_history *h, const struct history_event *e);

/* The event of an epoch, the last one if there are several; NULL: there is none. */
const struct history_event *history_find_epoch(const struct job_history *h, unsigned epoch);

/* What a restore means for the work that a job has done. */
struct history_work {
	int64_t used;  /* s for which the run had run at that epoch */
	int64_t saved; /* s: of what the job has done since it was started or restored before, it has this much still */
	int64_t lost;  /* s: and this much not */
};
/* Of a restore from epoch, before its event is added. last_seen: see `seen' above. Without checkpoints, saved and lost
 * together would have been lost. */
void history_work(const struct job_history *h, unsigned epoch, int64_t last_seen, struct history_work *w);

/* Writes history.json and the owner's copy. 0, or -1 with err. */
int history_save(const struct store *s, uid_t owner, const struct job_history *h, struct err *err);
/* Reads it. copy: that of the owner. 0; -1 with err and *h empty. err.num ENOENT: there is none, as in directories of
 * older versions. */
int history_load(const char *path, bool copy, struct job_history *h, struct err *err);

/* A tally as JSON, and back; the caller owns the object. For the sum of removed jobs. */
struct json_t;
struct json_t *history_render_tally(const struct history_tally *t);
int history_parse_tally(const struct json_t *o, struct history_tally *t, struct err *err);

#endif
