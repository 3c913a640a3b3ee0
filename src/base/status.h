/* The Checkpoint entry of a job: what `scontrol show job` shows in AdminComment.
 *
 *   Checkpoint={state=running interval=00:30:00 epoch=3 time=2026-11-22T23:01:02
 *   size=12.3MiB frozen=31ms total=0.2s memory=fork,… kept=2,3 skipped=0 failed=1 since=2026-11-22T22:31:00 restored=2
 * tried=n1 error="…" uuid=… agent=port}
 *
 * on one line. Text that an administrator put before or behind it is kept.
 * Values hold no blank unless quoted; quoted text holds no quote, brace,
 * backslash or control character (they are replaced).
 */
#ifndef FSCHED_BASE_STATUS_H
#define FSCHED_BASE_STATUS_H

#include <stdint.h>
#include "base/err.h"

struct status {
	char state[16];     /* enabled | running | vacated | preempted | restoring | ended | held */
	int64_t interval;   /* s; 0 = on request only (UNLIMITED) */
	unsigned epoch;     /* last complete epoch, 0 = none yet */
	int64_t epoch_time; /* Unix time of it */
	uint64_t bytes;     /* its size on disk */
	int64_t frozen_us;  /* how long the job stood still for it */
	int64_t total_us;   /* how long the checkpoint took in all */
	char memory[160];   /* of what its memory was made: manifest_memory_text(), "" = not known */
	char kept[128];     /* "2,3": epochs on disk */
	unsigned skipped;   /* scheduled checkpoints skipped for load so far */
	unsigned failed; /* periodic checkpoints that have failed so far, those among them that were tried again too */
	int64_t failed_since; /* Unix time of the first of them */
	unsigned restored;    /* epoch this run was restored from, 0 = none */
	char tried[128];      /* "n1,n2": nodes that could not restore it and are excluded for that */
	char error[256];      /* last error, "" = none since the last success */
	char uuid[37];
	char agent[80]; /* "port", "" while no agent runs; the host is the job's batch host */
};

/* Renders only the entry. Returned text is the caller's. */
char *status_render(const struct status *s);

/* Finds and parses the entry in an AdminComment. 0 found, -1 none (err says
 * "no Checkpoint entry" or what is malformed). */
int status_parse(const char *admin_comment, struct status *s, struct err *err);

/* Returns admin_comment (NULL allowed) with its Checkpoint entry replaced by the
 * one rendered from s, or appended behind a blank. Caller frees. */
char *status_replace(const char *admin_comment, const struct status *s);

#endif
