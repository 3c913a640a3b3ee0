/* Shared by the criu_*.c files. */
#ifndef FSCHED_CRIU_CRIU_INTERNAL_H
#define FSCHED_CRIU_CRIU_INTERNAL_H

#include <dirent.h>
#include <stdint.h>
#include "criu/criu.h"

#define CRIU_PRELOAD     "libfsched-criu.so"
#define CRIU_DUMP_LOG    "dump.log"
#define CRIU_RESTORE_LOG "restore.log"
#define CRIU_STATS       "stats-dump"

/* Fills err from the first of these that has a text: the Error lines of the log, criu's RPC message errmsg, the last
 * line of criu's standard error (stderr_fd, a memfd). A known cause is explained first. Returns -1. */
int criu_explain(struct err *err, int work_fd, const char *log, const char *errmsg, int stderr_fd);

/* True if version is at least major.minor. */
bool criu_version_at_least(const char *version, int major, int minor);

/* "core-12.img" -> 12, 0 for other names. */
int criu_core_pid(const char *name);

/* For a child that is about to exec criu: ignores all signals that can be ignored. With the default dispositions a
 * signal that Slurm sends to all processes of the job would end criu. */
void criu_ignore_signals(void);
/* The kernel sends SIGKILL to the caller when its parent dies. */
void criu_die_with_parent(void);

/* Returns the microseconds for which the processes were frozen, from stats-dump; 0 if it cannot be read. */
int64_t criu_read_frozen_us(int work_fd);

#endif
