/* Shared by the criu_*.c files only. */
#ifndef FSCHED_CRIU_CRIU_INTERNAL_H
#define FSCHED_CRIU_CRIU_INTERNAL_H

#include <dirent.h>
#include <stdint.h>
#include "criu/criu.h"

#define CRIU_PRELOAD     "libfsched-criu.so"
#define CRIU_DUMP_LOG    "dump.log"
#define CRIU_RESTORE_LOG "restore.log"
#define CRIU_STATS       "stats-dump"

/* Fills err from the first source that has something: the Error lines of the log, criu's own message, its standard
 * error (the end of a memfd). Known causes get a sentence of their own in front. Returns -1. */
int criu_explain(struct err *err, int work_fd, const char *log, const char *errmsg, int stderr_fd);

/* True if version is at least major.minor. */
bool criu_version_at_least(const char *version, int major, int minor);

/* "core-12.img" -> 12, 0 for other names. */
int criu_core_pid(const char *name);

/* In a child that is about to exec criu: default signal dispositions would let a signal that Slurm sends to all
 * processes of the job interrupt criu, so everything that can be ignored is. */
void criu_ignore_signals(void);
/* Dies with the parent. */
void criu_die_with_parent(void);

/* Microseconds the tree stood still, from stats-dump; 0 if it cannot be read. */
int64_t criu_read_frozen_us(int work_fd);

#endif
