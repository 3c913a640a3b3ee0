/* fsched.conf: "Key = Value" lines beside slurm.conf, '#' starts a comment,
 * keys are case-insensitive. Unknown keys, bad values and doubled keys are
 * errors that name file, line, key and the allowed values.
 *
 * The file is found in this order: an explicit path; $FSCHED_CONF;
 * the directory of $SLURM_CONF; /etc/slurm; /run/slurm/conf. Root code must
 * call conf_load() with an explicit path or a trusted environment; it refuses
 * a file that is not owned by root or is writable by group or others
 * (conf_load() itself checks this when the effective uid is 0).
 */
#ifndef FSCHED_BASE_CONF_H
#define FSCHED_BASE_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

#define CONF_KEYS_MAX 32

enum conf_log { CONF_LOG_SYSLOG, CONF_LOG_STDERR, CONF_LOG_FILE };
enum conf_engine { CONF_ENGINE_AUTO, CONF_ENGINE_CRIU };
enum conf_restore_failure { CONF_REQUEUE_FRESH, CONF_HOLD };

struct conf {
	char path[4096]; /* where it was read from; "" = built-in defaults only */

	/* keys of the specification */
	bool criu_enabled;   /* CheckpointType = checkpoint/criu | checkpoint/none (default) */
	unsigned max_epochs; /* CRIU_MaxEpochs, 1..1000, default 1 */
	bool incremental;    /* CRIU_Incremental, default NO: what has not changed since the epoch before is not written
				again */
	unsigned full_every; /* CRIU_FullEvery, 1..1000, default 10: epochs that it divides are full ones */
	bool pre_dump; /* CRIU_PreDump, default NO: memory is copied before the freeze, and in it what was written since
			*/
	unsigned pre_dump_delay; /* CRIU_PreDumpDelay, s, 0..3600, default 5: between the first such copy and the next
				  */
	bool load_aware;         /* CRIU_LoadAware, default NO */
	double load_cpu;         /* CRIU_LoadThresholdCPU, 0..1, default 0.95 */
	double load_io;          /* CRIU_LoadThresholdIO, 0..1, default 0.50 */
	double load_memory;      /* CRIU_LoadThresholdMemory, 0..1, default 0.85 */

	/* old Slurm's */
	char dir[4096]; /* JobCheckpointDir, absolute, default /var/lib/fsched/checkpoint */

	/* fsched's own */
	unsigned max_skip;       /* CheckpointMaxSkip, intervals, 0..1000, default 3 */
	unsigned timeout;        /* CheckpointTimeout, s, 10..86400, default 1800: one whole checkpoint or restore */
	unsigned freeze_timeout; /* CheckpointFreezeTimeout, s, 5..3600, default 60: how long the job may stand still
				  * for a checkpoint, besides what its memory takes */
	uint64_t file_limit; /* CheckpointFileLimit, bytes with K/M/G/T suffix, default 1G: copies of files changed in
				place, per epoch */
	uint64_t tmp_limit;  /* CheckpointTmpLimit, bytes, default 1G: private /tmp and /dev/shm, per epoch */
	unsigned lease_time; /* CheckpointLeaseTime, s, 4..3600, default 20: a node that cannot renew for so long stops
				the job */
	unsigned restore_retry;  /* CheckpointRestoreRetry, s, 0..86400, default 180: how long what passes by itself is
				    waited for at a restore */
	unsigned max_moves;      /* CheckpointMaxMoves, 0..100, default 3: other nodes that are tried for one restore */
	enum conf_engine engine; /* MemoryEngine = auto (default: fsched's own where it works) | criu (criu writes and
				    reads all memory) */
	unsigned threads;        /* CheckpointThreads, 0..64, default 0 = as many as processors, at most 16 */
	unsigned compression;    /* CheckpointCompression, 0 (none) .. 20, default 1; see image/codec.h */
	unsigned port_min, port_max; /* CheckpointPorts = MIN-MAX, 1024..65535; default 0-0 = any free port */
	char criu[4096]; /* CriuPath: a criu binary, or the directory made by get-criu; default: found by criu_locate()
			  */
	char munge_socket[108];                       /* MungeSocket; "" = MUNGE's default */
	char pod_dir[4096];                           /* PodDir: node-local, default /var/lib/fsched/pod */
	bool private_tmp;                             /* PodPrivateTmp, default YES */
	enum conf_restore_failure on_restore_failure; /* CheckpointOnRestoreFailure = hold (default) | requeue_fresh */
	enum conf_log log;                            /* CheckpointLog = syslog (default) | stderr | /absolute/path */
	char log_path[4096];

	unsigned line[CONF_KEYS_MAX]; /* where each key was set in path, 0 = default; in the order of the table in
					 conf.c */
};

/* Fills *c with the defaults. */
void conf_defaults(struct conf *c);

/* Reads the configuration; path may be NULL (search as above). A missing file
 * is no error: the defaults hold (criu_enabled = false). */
int conf_load(struct conf *c, const char *path, struct err *err);

/* What one checkpoint may take, in s: CheckpointTimeout, and the delay of a pre-dump. */
unsigned conf_checkpoint_seconds(const struct conf *c);

/* One line per key: "Key = value    # default" or "# FILE:LINE"; and a notice
 * behind keys that have no effect beside the others. Used by `fsched config`. */
void conf_print(const struct conf *c, FILE *out);

/* For each key that was set but has no effect beside what else holds, calls fn once
 * with a sentence. */
void conf_notices(const struct conf *c, void (*fn)(const char *text, void *arg), void *arg);

#endif
