/* Shared by the files of this room only. Functions that return int return 0, or -1 with err, unless they say
 * otherwise. */
#ifndef FSCHED_STORE_INTERNAL_H
#define FSCHED_STORE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/err.h"
#include "store/lease.h"
#include "store/store.h"

#define STORE_DIR_MODE 0711        /* of a job's directory and the one with its owner's copies */
#define OWNER_COPIES   "owner"     /* the directory with the copies for the job's owner, in that of the job */
#define STORE_JSON_MAX (64u << 20) /* bytes of the largest JSON file that is read or written */

/* Refuses (EPERM) a directory in which a user other than root could forge a checkpoint. path is for the message. */
int store_check_dir(int fd, const char *path, struct err *err);
/* Opens the directory name below dirfd; it must not be a symbolic link and must pass store_check_dir(). The caller
 * closes the descriptor. */
int store_open_dir(int dirfd, const char *name, const char *path, struct err *err);
/* mkdir, then group root and the mode: idempotent, also after a crash in between. */
int store_make_dir(int dirfd, const char *name, const char *path, mode_t mode, struct err *err);
struct json_t;
/* Fills *r, which must be zeroed before, from the JSON object of a job.json. */
int record_parse(const struct json_t *root, struct job_record *r, struct err *err);
/* The text of job.json, owned by the caller. NULL if a member is not UTF-8. */
char *record_render(const struct job_record *r);
/* job.json of a directory with that path. */
int record_load(int dirfd, const char *path, struct job_record *r, struct err *err);
/* Copies for the job's owner (owner_copy.c). The end of checkpoint.log, open as logfd for reading, too: */
void owner_copy_log(const struct store *s, uid_t owner, int logfd);
/* A whole file: job.json, and those of job_file_save(). */
int owner_copy_write(const struct store *s, uid_t owner, const char *name, const char *text, struct err *err);

/* Writes steps.json, history.json or proofs.json, and the owner's copy of it. text NULL: it cannot be rendered. */
int job_file_save(const struct store *s, uid_t owner, const char *name, const char *text, struct err *err);
/* Reads it, of at most max bytes; path: of the job's directory; copy: that of the owner. NULL with err: ENOENT if there
 * is none. The caller owns the object. */
struct json_t *job_file_load(const char *path, bool copy, const char *name, size_t max, struct err *err);

/* usage.c: sets what the job counts with, if JobCheckpointDir has usage/. s: the job's open directory. */
int usage_record(const struct store *s, const struct job_record *r, struct err *err);
/* The job's directory below basefd has another name. */
void usage_move(int basefd, const char *from, const char *to);

struct job_steps;
/* Fills *s from the JSON object of a steps.json. */
int steps_parse(const struct json_t *root, struct job_steps *s, struct err *err);

struct proofs;
/* Fills *p from the JSON object of a proofs.json. */
int proofs_parse(const struct json_t *root, struct proofs *p, struct err *err);

struct job_history;
/* Fills *h from the JSON object of a history.json. */
int history_parse(const struct json_t *root, struct job_history *h, struct err *err);

/* Walks the directory of an epoch. Calls file for every regular file, with its path relative to the top, and dir for
 * every directory after its entries, last for the top itself (path "."). Either may be NULL. The descriptors belong to
 * the walk. A result of -1 of a callback ends the walk. Entries that are neither files nor directories are an error,
 * because an epoch has no others. */
struct epoch_walk {
	int (*file)(void *arg, int dirfd, const char *name, const char *path, const struct stat *st, struct err *err);
	int (*dir)(void *arg, int dirfd, const char *path, struct err *err);
	void *arg;
};
int epoch_walk(int dirfd, const struct epoch_walk *w, struct err *err);
/* Syncs every file and directory below dirfd. */
int epoch_sync(int dirfd, struct err *err);

/* Fills *l from the JSON object of a lease. */
int lease_parse(const struct json_t *o, struct lease *l, struct err *err);

/* Parses the text of a manifest, as manifest_load() does; for the fuzzer. */
struct manifest;
int manifest_parse(const char *text, size_t len, struct manifest *m, struct err *err);

#endif
