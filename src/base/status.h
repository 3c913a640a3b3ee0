/* The Checkpoint entry of a job, which `scontrol show job` shows in AdminComment. It is one line:
 *
 *   Checkpoint={state=running interval=00:30:00 epoch=3
 *   time=2026-11-22T23:01:02 size=12.3MiB frozen=31ms total=0.2s
 *   memory=fork,… kept=2,3 skipped=0 used=01:30:00 failed=1
 *   since=2026-11-22T22:31:00 restored=2 steps=3 tried=n1 error="…" uuid=…
 *   agent=port}
 *
 * Text of an administrator before or after it is kept. A value has no blank unless it is quoted. A quoted text has no
 * quote, brace, backslash or control character (they are replaced). */
#ifndef FSCHED_BASE_STATUS_H
#define FSCHED_BASE_STATUS_H

#include <stdint.h>
#include "base/err.h"

/* The state of a checkpoint-enabled job. */
enum status_state {
	STATUS_UNKNOWN, /* no state, or one of a later version of fsched */
	STATUS_ENABLED, /* submitted; Slurm's next start of it runs the script from the beginning */
	STATUS_RUNNING,
	STATUS_VACATED,   /* saved, and held in Slurm's queue */
	STATUS_PREEMPTED, /* saved, and waiting in Slurm's queue */
	STATUS_REQUEUED,  /* the same, at its time limit or because somebody has requeued it */
	STATUS_RESTORING, /* a restore runs, waits for its next attempt, or waits for a node */
	STATUS_ENDED,
	STATUS_HELD, /* held in Slurm's queue, because it could not be restored */
};

struct status {
	enum status_state state;
	char unknown_state[16]; /* if state is STATUS_UNKNOWN: the word that was read, "" = none; it is written again */
	int64_t interval;       /* s; INTERVAL_ON_REQUEST, INTERVAL_AUTO */
	int64_t every;          /* INTERVAL_AUTO: s, the interval at present; 0 = not known */
	unsigned epoch;         /* last complete epoch, 0 = none yet */
	int64_t epoch_time;     /* Unix time of that epoch */
	uint64_t bytes;         /* size of that epoch on disk */
	int64_t frozen_us;      /* how long the job was frozen for it */
	int64_t total_us;       /* how long the checkpoint took in all */
	char memory[160];       /* how its memory was saved: manifest_memory_text(), "" = not known */
	char kept[128];         /* "2,3": epochs on disk */
	unsigned skipped;       /* scheduled checkpoints that were skipped because of load so far */
	int64_t used;    /* s for which the job had run when the last checkpoint or this run began, 0 = not known */
	unsigned failed; /* periodic checkpoints that have failed so far, including repeated attempts */
	int64_t failed_since; /* Unix time of the first of them */
	unsigned restored;    /* epoch from which this run was restored, 0 = none */
	unsigned steps;       /* steps of srun that run, as far as the job's launchers say; 0 = none */
	char tried[128];      /* "n1,n2": nodes that could not restore the job and are excluded for that */
	char error[256];      /* last error, "" = none since the last success */
	char uuid[37];
	char agent[80]; /* the agent's port, "" = no agent runs; the host is the job's batch host */
};

/* The word for the state, "" = none. It is static or in s. */
const char *status_state_text(const struct status *s);
/* Sets the state by its word. Returns 0, or -1 for a word longer than any that this or a later version has. */
int status_set_state(struct status *s, const char *word);

/* Renders only the entry. The caller frees the text. */
char *status_render(const struct status *s);

/* Finds and parses the entry in an AdminComment. Returns 0, or -1 with err: ENOENT and "no Checkpoint entry", or
 * EBADMSG and what is malformed. */
int status_parse(const char *admin_comment, struct status *s, struct err *err);

/* Returns admin_comment (NULL is allowed) with its Checkpoint entry replaced by the entry of s. If there is none, the
 * entry of s is appended after a blank. The caller frees the text. */
char *status_replace(const char *admin_comment, const struct status *s);

#endif
