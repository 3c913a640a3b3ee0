/* Shared by the files of the store; nobody else includes it. */
#ifndef FSCHED_STORE_INTERNAL_H
#define FSCHED_STORE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/err.h"
#include "store/store.h"

#define STORE_DIR_MODE 0711        /* of a job's directory and the one with its owner's copies */
#define STORE_JSON_MAX (64u << 20) /* bytes of the largest JSON file that is read */

/* Refuses a directory in which somebody else than root could forge a checkpoint. */
int store_check_dir(int fd, const char *path, struct err *err);
/* Opens a directory that is no symbolic link and passes store_check_dir(). */
int store_open_dir(int dirfd, const char *name, const char *path, struct err *err);
/* mkdir, then group root and the mode: idempotent, also after a crash in between. */
int store_make_dir(int dirfd, const char *name, const char *path, mode_t mode, struct err *err);
/* job.json of a directory with that path. */
int record_load(int dirfd, const char *path, struct job_record *r, struct err *err);
/* Copies for the job's owner (owner_copy.c). The end of checkpoint.log, open as logfd for reading, too: */
void owner_copy_log(const struct store *s, uid_t owner, int logfd);
/* job.json */
int owner_copy_record(const struct store *s, uid_t owner, const char *text, struct err *err);
/* "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" */
bool store_uuid_valid(const char *uuid);

/* Calls file for every regular file below the directory (path relative to it) and dir behind the entries of every
 * directory, the top included (path "."). Descriptors are the walk's. Anything else than files and directories is an
 * error: nothing else belongs into an epoch. A callback's -1 ends the walk. Either may be NULL. */
struct epoch_walk {
	int (*file)(void *arg, int dirfd, const char *name, const char *path, const struct stat *st, struct err *err);
	int (*dir)(void *arg, int dirfd, const char *path, struct err *err);
	void *arg;
};
int epoch_walk(int dirfd, const struct epoch_walk *w, struct err *err);
/* fsync of every file and directory below. */
int epoch_sync(int dirfd, struct err *err);

/* What manifest_load() does with the text that it reads. */
struct manifest;
int manifest_parse(const char *text, size_t len, struct manifest *m, struct err *err);

#endif
