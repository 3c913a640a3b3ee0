/* `fsched checkpoint`: what its parts share. checkpoint.c reads the command line and goes through the jobs; target.c
 * loads and judges a job; saving.c has create and vacate, restart.c restart, answers.c able and error. */
#ifndef FSCHED_CLI_USER_CHECKPOINT_H
#define FSCHED_CLI_USER_CHECKPOINT_H

#include <stdbool.h>
#include <jansson.h>
#include "cli/cli.h"
#include "cli/user/client.h"
#include "cli/progress.h"
#include "base/status.h"
#include "slurm/rpc/slurm_rpc.h"

struct request {
	const char *op; /* "create", "vacate", "restart", "able", "error" */
	unsigned epoch; /* restart: 0 = the last one */
	bool wait;
	int timeout_s; /* 0 = the operation's own */
	bool quiet;
	bool single;        /* one job was named: answers need no name in front */
	char *munge_socket; /* owned */
	uid_t slurm_user;
};

struct target {
	uint32_t id;
	char label[64]; /* "job 12_3" */
	struct slurm_job job;
	bool enabled; /* it has a Checkpoint entry */
	struct status status;
	struct progress progress;
};

/* Each does its operation on one job, prints the outcome, and returns an exit status of cli.h. */
int op_create(const struct request *r, struct target *t);
int op_vacate(const struct request *r, struct target *t);
int op_restart(const struct request *r, struct target *t);
int op_able(const struct request *r, struct target *t);
int op_error(const struct request *r, struct target *t);

/* Loads or reloads the record. */
int target_load(struct target *t, struct err *err);
void target_free(struct target *t);

/* May the caller do something to it? Owner, root, SlurmUser. */
int target_check_user(const struct request *r, const struct target *t, struct err *err);
/* Is it a batch job with --checkpoint? */
int target_check_enabled(const struct target *t, struct err *err);
/* Does it run, so that it can be saved? verb: "checkpointed", "vacated". */
int target_check_running(const struct target *t, const char *verb, struct err *err);
/* A job cannot checkpoint itself. */
int target_check_outside(const struct target *t, struct err *err);

/* What the next start of a pending job will do: "continue from epoch 3", "start from the beginning". buf of at least 48
 * bytes. */
const char *target_next_start(const struct target *t, char *buf, size_t len);

/* Finds the agent, waiting for one that is about to start, and asks it. */
enum client_outcome target_ask(const struct request *r, struct target *t, const char *op, json_t **result,
			       struct err *err);

/* "fsched checkpoint: job 12: text" on standard error, the progress line taken away first. Returns CLI_FAILED. */
int target_fail(struct target *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "job 12: text" on standard output unless --quiet. */
void target_say(const struct request *r, struct target *t, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The operation is under way without us: from now on a person who interrupts is told so. */
void target_goes_on(const struct target *t, const char *what);

/* Sleeps a little between two looks at slurmctld: longer the longer it takes. *round begins with 0. */
void target_pause(struct target *t, unsigned *round);

#endif
