/* fsched.conf: lines "Key = Value" in a file beside slurm.conf. '#' starts a comment, keys are case-insensitive.
 * Unknown keys, bad values and keys that are set twice are errors, which name the file, the line, the key and the
 * allowed values.
 *
 * The first of these paths is used:
 *
 * - an explicit path
 *
 * - $FSCHED_CONF
 *
 * - fsched.conf in the directory of $SLURM_CONF
 *
 * - /etc/slurm/fsched.conf
 *
 * - /run/slurm/conf/fsched.conf
 *
 * Root must call conf_load() with an explicit path or a trusted environment. If the effective uid is 0, conf_load()
 * refuses a file that does not belong to root or is writable by group or others. */
#ifndef FSCHED_BASE_CONF_H
#define FSCHED_BASE_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

#define CONF_KEYS_MAX    64
#define CONF_PROVE_FIRST UINT32_MAX

enum conf_log { CONF_LOG_SYSLOG, CONF_LOG_STDERR, CONF_LOG_FILE };
enum conf_engine { CONF_ENGINE_AUTO, CONF_ENGINE_CRIU };
#define CONF_SRUN "/usr/bin/srun:/usr/local/bin/srun:/opt/slurm/bin/srun"
enum conf_tcp { CONF_TCP_REFUSE, CONF_TCP_CLOSE };
enum conf_network { CONF_NETWORK_HOST, CONF_NETWORK_PRIVATE };
enum conf_tmp { CONF_TMP_IMAGE, CONF_TMP_DIRECTORY };
enum conf_restore_failure { CONF_REQUEUE_FRESH, CONF_HOLD };
enum conf_requeue { CONF_REQUEUE_RESUME, CONF_REQUEUE_RESTART };

struct conf {
	char path[4096]; /* where it was read from; "" = built-in defaults only */

	/* keys of the specification */
	bool criu_enabled;   /* CheckpointType = checkpoint/criu | checkpoint/none (default) */
	unsigned max_epochs; /* CRIU_MaxEpochs, 1..1000, default 1 */
	bool incremental;    /* CRIU_Incremental, default NO: memory unchanged since the last epoch is not written */
	unsigned full_every; /* CRIU_FullEvery, 1..1000, default 10: every epoch divisible by it is a full one */
	bool pre_dump;       /* CRIU_PreDump, default NO: memory is copied before the freeze, changes in it */
	unsigned pre_dump_delay; /* CRIU_PreDumpDelay, s, 0..3600, default 5: from the first to the second copy */
	bool load_aware;         /* CRIU_LoadAware, default NO */
	double load_cpu;         /* CRIU_LoadThresholdCPU, 0..1, default 0.95 */
	double load_io;          /* CRIU_LoadThresholdIO, 0..1, default 0.50 */
	double load_memory;      /* CRIU_LoadThresholdMemory, 0..1, default 0.85 */

	/* keys of older versions of Slurm */
	char dir[4096]; /* JobCheckpointDir, absolute, default /var/lib/fsched/checkpoint */

	/* keys of fsched */
	int64_t min_interval; /* CheckpointMinInterval, s, as in --checkpoint, default 60: the shortest interval of a
				 job */
	/* --checkpoint=auto: CheckpointAutoMax, s, default 4 h: the longest interval. CheckpointMTBF, s, default a
	 * year: the mean time between two failures of a node. */
	int64_t auto_max, mtbf;
	unsigned max_skip; /* CheckpointMaxSkip, intervals, 0..1000, default 3 */
	unsigned timeout;  /* CheckpointTimeout, s, 10..86400, default 1800: for a whole checkpoint or restore */
	/* CheckpointFreezeTimeout, s, 5..3600, default 60: how long the job may be frozen for a checkpoint, in addition
	 * to the time for its memory. */
	unsigned freeze_timeout;
	/* CheckpointJobLimit, bytes with suffix K, M, G or T, default 0 = the free space: all of an epoch. */
	uint64_t job_limit;
	/* CheckpointMaxBytesUser, CheckpointMaxBytes, bytes, default 0 = none: all epochs of one user, and of all users
	 */
	uint64_t max_bytes_user, max_bytes;
	bool quota_prune; /* CheckpointQuotaPrune, default NO: superfluous epochs are removed to stay below these */
	/* CheckpointMaxWriters, 0..1000, default 0 = any number: checkpoints of a node at the same time.
	 * CheckpointWriterWait, s, 0..86400, default 600: how long one waits for its turn. */
	unsigned max_writers, writer_wait;
	/* CheckpointFileLimit, bytes, default 0 = none of their own: copies of files that are changed in place, per
	 * epoch. */
	uint64_t file_limit;
	uint64_t tmp_limit; /* CheckpointTmpLimit, bytes, default 0 = none: private /tmp and /dev/shm, per epoch */
	/* CheckpointLeaseTime, s, 4..3600, default 20: a node that cannot renew its lease for so long stops the job. */
	unsigned lease_time;
	/* CheckpointHookTime, s, 1..3600, default 60: for a job's command before a checkpoint or after a restore, and
	 * the most that its signal may come before a checkpoint. */
	unsigned hook_time;
	/* CheckpointKeepDays, 0..36500, default 0 = for ever: how long epochs stay after the end of their job, for
	 * `fsched prune --ended --expired`. */
	unsigned keep_days;
	/* CheckpointRestoreRetry, s, 0..86400, default 180: how long a restore waits for obstacles that pass by
	 * themselves. */
	unsigned restore_retry;
	/* CheckpointProve = none (default, 0) | first (CONF_PROVE_FIRST: the first epoch after each start of a job) |
	 * every:N (1..1000: epochs divisible by N): they are restored on trial. */
	unsigned prove;
	/* CheckpointTcp = refuse (default: a job with TCP connections to other hosts is not checkpointed) | close (it
	 * is, and the connections are closed in the restored job). */
	enum conf_tcp tcp;
	unsigned max_moves; /* CheckpointMaxMoves, 0..100, default 3: other nodes that are tried for one restore */
	/* MemoryEngine = auto (default: fsched's own where it works) | criu (criu writes and reads all memory). */
	enum conf_engine engine;
	unsigned threads; /* CheckpointThreads, 0..64, default 0 = one per processor, at most 16 */
	int compression;  /* CheckpointCompression, 0 (none) .. 20, or -1 = auto, the default; image/codec.h */
	unsigned port_min, port_max; /* CheckpointPorts = MIN-MAX, 1024..65535; default 0-0 = any free port */
	/* CriuPath: a criu binary, or the directory made by get-criu; "" = found by criu_locate(). */
	char criu[4096];
	char munge_socket[108]; /* MungeSocket; "" = MUNGE's default */
	char pod_dir[4096];     /* PodDir: on the node, default /var/lib/fsched/pod */
	bool private_tmp;       /* PodPrivateTmp, default YES */
	/* PodTmp = image (default: a file system of its own, whose files keep their inode numbers) | directory. */
	enum conf_tmp tmp;
	uint64_t tmp_size; /* PodTmpSize, bytes, default 0 = the free space of PodDir: the most that /tmp can hold */
	/* PodScratch: directories of the node, separated by colons, default none: a job's directories there belong to
	 * its epochs (files/scratch.c). */
	char scratch[4096];
	/* PodNetwork = private (default: each job has a network of its own) | host (jobs use the node's network). */
	enum conf_network network;
	char net_range[20]; /* PodNetworkRange, see base/ipv4_range.h, default 198.18.224.0/20 */
	/* SrunPath: paths of Slurm's srun, separated by colons, which in pods are fsched-srun; "" (NO) = it stays.
	 * Default CONF_SRUN. */
	char srun[4096];
	enum conf_restore_failure on_restore_failure; /* CheckpointOnRestoreFailure = hold (default) | requeue_fresh */
	/* CheckpointOnRequeue = resume (default: a job that others requeue continues from its newest epoch) | restart
	 * (it starts over). */
	enum conf_requeue on_requeue;
	enum conf_log log;   /* CheckpointLog = syslog (default) | stderr | /absolute/path */
	char log_path[4096]; /* for CONF_LOG_FILE */

	/* The line of path in which each key was set, 0 = default; in the order of the table in conf.c. */
	unsigned line[CONF_KEYS_MAX];
};

/* Fills *c with the defaults. */
void conf_defaults(struct conf *c);

/* Reads the configuration. path may be NULL: see the list above. A missing file is no error: the defaults hold
 * (criu_enabled = false). Returns 0 or -1 with err. */
int conf_load(struct conf *c, const char *path, struct err *err);

/* Returns the seconds that one checkpoint may take: CheckpointTimeout and the delay of a pre-dump. */
unsigned conf_checkpoint_seconds(const struct conf *c);

/* Prints one line per key: "Key = value    # default" or "# FILE:LINE", with a remark if the key has no effect. For
 * `fsched config`. */
void conf_print(const struct conf *c, FILE *out);

/* The same as values: calls fn for each key. value: as it would stand in the file, "" = none. line: 0 = the default.
 * idle: why a key that is set has no effect, or NULL. */
void conf_each(const struct conf *c,
	       void (*fn)(const char *name, const char *value, unsigned line, const char *idle, void *arg), void *arg);

/* Calls fn with a sentence for each key that is set but has no effect because of other keys. */
void conf_notices(const struct conf *c, void (*fn)(const char *text, void *arg), void *arg);

#endif
