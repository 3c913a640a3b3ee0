/* The checkpoint directory of a job, <JobCheckpointDir>/<job_id>/, root:<gid of the job>, mode 0750. In it:
 *
 *   <JobCheckpointDir>/<job_id>/   root:root 0711
 *   job.json         0600  struct job_record
 *   script           0600  copy of the batch script (slurmd deletes its own)
 *   leader           0755  copy of fsched-leader, bind-mounted over the installed one at restore
 *   checkpoint.log   0600  one line per event
 *   full             0600  exists while the next epoch must share no files with older ones, because one of them was
 *                          found damaged
 *   written          0600  list of the files that the job has written (agent/write_list.h)
 *   names            0600  which names the job has changed (agent/name_list.h)
 *   steps.json       0600  what the steps of srun have done (store/steps.h)
 *   history.json     0600  what has happened to its checkpoints, counted, and the last events (store/history.h)
 *   proofs.json      0600  what restores that prove its epochs have shown (store/proofs.h)
 *   prove.lock       0600  held by such a restore
 *   prove.log        0600  criu's log of the last one that failed
 *   owner/           0711  copies for the job's owner, his and 0400: job.json, steps.json, history.json, proofs.json,
 *                          and the last lines of checkpoint.log. Root replaces them and never reads them.
 *   epochs/          0700
 *     000003/              manifest.json, manifest.cred (MUNGE), criu/, files/, memory/
 *     000004.partial/      being written; never restored, removed at the next start
 *
 * Everybody may enter the directory, so that the job's owner can reach his copies. The modes of the files keep all else
 * for root.
 *
 * A job id is no identity, because Slurm reuses job ids: the uuid must match. A directory with another uuid is set
 * aside as "<job_id>.<uuid>", never overwritten. Everything is opened relative to directory descriptors with
 * O_NOFOLLOW, and a directory that is not owned by root or is writable by others is refused.
 *
 * Functions that return int return 0, or -1 with err, unless they say otherwise.
 */
#ifndef FSCHED_STORE_STORE_H
#define FSCHED_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"

#define STORE_KEPT_MAX 1000

enum intent {
	INTENT_RUNNING,  /* the job runs, or ran when its node failed: restore */
	INTENT_VACATING, /* an epoch is durable and the requeue is under way: restore */
	INTENT_VACATED,  /* saved and held by vacate: restore, never start over without being asked */
	INTENT_REQUEUED, /* a person asked to start over */
	INTENT_DONE,     /* the script ended */
};
const char *intent_name(enum intent i);
int intent_parse(const char *name, enum intent *out); /* 0 or -1 */

struct epoch_summary {
	unsigned number;
	int64_t time; /* Unix, start of the freeze */
	uint64_t bytes;
	int64_t frozen_us; /* duration of the freeze; of a vacate: until the epoch was durable; 0 = not known */
	int64_t total_us;  /* duration of the whole checkpoint */
	unsigned run;      /* job_record.run to which it belongs */
	char reason[16];   /* periodic, create, vacate ...; "" in records of older versions */
	char memory[160];  /* manifest_memory_text(); "" in records of older versions */
	char closed[160];  /* manifest_closed_text() */
	uint64_t shared;   /* part of bytes: store_epoch_shared() when epochs were last added or removed */
};

struct job_record {
	uint32_t job_id;
	char uuid[37];
	char cluster[64];
	char user[64];
	uid_t uid;
	gid_t gid;
	int64_t interval; /* s between checkpoints, INTERVAL_ON_REQUEST, INTERVAL_AUTO */
	enum intent intent;
	int status;             /* INTENT_DONE: the script's wait status; -1 = not known, or Slurm ended the job */
	unsigned run;           /* grows by one each time the job starts over; epochs of another run are not restored */
	unsigned restart_count; /* Slurm's, of the start that holds the job */
	char host[256];         /* node that holds the job */
	char script_sha256[65];
	int64_t used;     /* s for which this run of the job has run, as of when the record was written */
	unsigned skipped; /* scheduled checkpoints of this run that were skipped for load */
	unsigned n_epochs;
	struct epoch_summary epochs[STORE_KEPT_MAX]; /* ascending; only complete ones */
};

struct json_t;
/* Sets time, bytes, frozen_us, total_us and memory from the result of a worker, a JSON object. A number that is
 * missing, of another type or negative becomes 0, because a record with it could not be read again. A text is made
 * printable and cut to its buffer. time stays as it is if the result has none, and so do all other members. */
void epoch_summary_from_result(struct epoch_summary *e, const struct json_t *result);

struct store {           /* an open job directory */
	int dirfd;       /* owned */
	int epochsfd;    /* owned */
	char path[4096]; /* absolute */
};

/* Opens <base>/<job_id>, as root; with create, makes it if it is missing, and base and its parents with mode 0755.
 * Close with store_close(). */
int store_open(struct store *s, const char *base, uint32_t job_id, bool create, struct err *err);
/* The same for a directory of any name (a pod without Slurm). */
int store_open_path(struct store *s, const char *path, bool create, struct err *err);
void store_close(struct store *s);

/* Renames an existing <base>/<job_id> whose record has another uuid, or has none that can be read, to
 * <base>/<job_id>.<its uuid, or "unknown-<time>">. *moved: it was renamed. */
int store_set_aside(const char *base, uint32_t job_id, const char *uuid, bool *moved, struct err *err);

/* Read and write job.json. Saving is atomic and durable. Loading fails with ENOENT if there is none. */
int store_load_record(const struct store *s, struct job_record *r, struct err *err);
int store_save_record(const struct store *s, const struct job_record *r, struct err *err);
/* What the job's owner may read: his copy of the record, and (may be NULL) where the log is that he may read. Nothing
 * is open afterwards. num == EACCES for others. */
int store_load_copy(const char *base, uint32_t job_id, struct job_record *r, char log[4096], struct err *err);

/* As the job's owner: asks that all that is kept of the job be removed (removal.c). */
int store_ask_removal(const char *base, uint32_t job_id, struct err *err);
/* Whether he has. name: of the job's directory below base; owner: of the job, as its record says. */
bool store_removal_asked(const char *base, const char *name, uid_t owner);
/* Seconds since the last event of the job that its record tells, by the file's time: its end, its last epoch. Root's
 * file, for others the copy. -1: there is none. */
int64_t store_record_age(const char *base, const char *name);

/* Bytes that the epochs take together. What several of them share counts once, if it is the same for all. */
uint64_t record_bytes(const struct job_record *r);
/* Of them what the removal of all epochs but the newest would free. */
uint64_t record_prunable_bytes(const struct job_record *r);
/* Removes entries of the oldest epochs, never that of the newest, until the rest takes so many bytes less. Returns the
 * number of the last one that was removed; 0: none was. */
unsigned record_forget_oldest(struct job_record *r, uint64_t bytes);
/* The record's entry of an epoch; NULL: there is none. */
const struct epoch_summary *record_find_epoch(const struct job_record *r, unsigned epoch);
/* The entry of the newest epoch of the present run, from which a restart would go on; NULL: there is none. The newest
 * of all may be one that a restore from an older one has left behind. */
const struct epoch_summary *record_newest_epoch(const struct job_record *r);
struct json_t;
/* Removes the entry of an epoch from the record in memory. Without one nothing happens. */
void record_forget_epoch(struct job_record *r, unsigned epoch);

/* Appends the line "2026-11-22T23:01:02 host text" to checkpoint.log, control characters replaced, and copies the end
 * of the log for the job's owner. Errors are ignored: a log that cannot be written is no reason to fail a job. */
void store_log(const struct store *s, uid_t owner, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Makes epochs/N.partial with criu/ and files/ in it; removes a stale one first. Returns its descriptor, which the
 * caller closes, or -1. */
int store_begin_epoch(const struct store *s, unsigned epoch, struct err *err);
/* Syncs every file and directory of N.partial. */
int store_sync_epoch(const struct store *s, unsigned epoch, struct err *err);
/* Renames N.partial to N and syncs epochs/. After 0 the epoch is complete. */
int store_commit_epoch(const struct store *s, unsigned epoch, struct err *err);
/* Removes N.partial if it exists. */
void store_abort_epoch(const struct store *s, unsigned epoch);
/* Removes every *.partial, except that of a proof that is under way: it holds STORE_PROVE_LOCK in the job's directory
 * by flock(2), and reads from STORE_PROOF_DIR in epochs/. */
#define STORE_PROVE_LOCK "prove.lock"
#define STORE_PROOF_DIR  "prove.partial"
void store_remove_partials(const struct store *s);
/* Removes a complete epoch. Renames it to N.partial first, so that a partly removed one is never taken for complete. */
int store_remove_epoch(const struct store *s, unsigned epoch, struct err *err);
/* Opens epochs/N. Returns a descriptor that the caller closes, or -1. */
int store_open_epoch(const struct store *s, unsigned epoch, struct err *err);
/* Bytes in files of a complete epoch that other epochs share by hard links, so that removing the epoch does not free
 * them. 0 also if the epoch cannot be opened. */
uint64_t store_epoch_shared(const struct store *s, unsigned epoch);

/* Set, read and clear the mark that the next epoch is to be a full one. Setting it may fail unnoticed: then an
 * increment may continue a damaged epoch, which the next restore finds. */
void store_want_full(const struct store *s);
bool store_full_wanted(const struct store *s);
void store_full_made(const struct store *s);
/* Lists the numbers of the complete epochs on disk, ascending; the newest max if there are more. Returns how many, or
 * -1 with errno. */
int store_list_epochs(const struct store *s, unsigned *out, int max);
/* Removes from the record the epochs that are not on the disk: root may have removed them (fsched prune --force). */
void store_forget_removed(const struct store *s, struct job_record *r);
/* The number of the next epoch, above those in the record and those on disk. A complete epoch may be missing in the
 * record because its worker died before it could report it. 0, with err, if the epochs on disk cannot be listed. */
unsigned store_next_epoch(const struct store *s, const struct job_record *r, struct err *err);
/* The number of the newest complete epoch before `epoch`, of whatever run. 0 if there is none or they cannot be
 * listed. */
unsigned store_previous_epoch(const struct store *s, unsigned epoch);

#endif
