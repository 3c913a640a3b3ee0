/* `fsched checkpoint`: what its files share. checkpoint.c parses the command line and loops over the jobs,
 * checkpoint_target.c loads and checks a job, checkpoint_create.c has create and vacate, checkpoint_restart.c restart,
 * and answer_able.c able and error. */
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
	unsigned epoch; /* of restart; 0 = the last one */
	bool wait;
	int timeout_s; /* 0 = the default of the operation */
	bool quiet;
	bool single;        /* one job was named: answers do not begin with its name */
	json_t *able;       /* of able --json: the answers, owned; NULL: text */
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

/* Each runs its operation on one job, prints the outcome and returns an exit status (cli.h). */
int op_create(const struct request *r, struct target *t);
int op_vacate(const struct request *r, struct target *t);
int op_restart(const struct request *r, struct target *t);
int op_able(const struct request *r, struct target *t);
int op_error(const struct request *r, struct target *t);
/* The answer of able for a task that has no record of its own yet. */
void able_answer_waiting(const struct request *r, const struct slurm_job *job);
/* Prints and frees r->able. */
void able_print_json(struct request *r);

/* Loads the job from Slurm, again if it was loaded before. 0, or -1 with err and *t unchanged. */
int target_load(struct target *t, struct err *err);
void target_free(struct target *t);

/* The checks: 0, or -1 with err, whose text continues "job 12: ".
 *
 * The caller is the owner, root or SlurmUser. */
int target_check_user(const struct request *r, const struct target *t, struct err *err);
/* It is a batch job with --checkpoint. */
int target_check_enabled(const struct target *t, struct err *err);
/* It runs. verb, for the message: "checkpointed", "vacated". */
int target_check_running(const struct target *t, const char *verb, struct err *err);
/* This process is not inside the pod of the job: a job cannot checkpoint itself. */
int target_check_outside(const struct target *t, struct err *err);

/* Writes to buf, of at least 48 bytes, what the next start of a pending job will do: "continue from epoch 3" or "start
 * from the beginning". Returns buf. */
const char *target_next_start(const struct target *t, char *buf, size_t len);

/* Sends the request op to the agent of the job. Waits for an agent that is about to start. */
enum client_outcome target_ask(const struct request *r, struct target *t, const char *op, json_t **result,
			       struct err *err);

/* Erases the progress line and prints "fsched checkpoint: job 12: text" on standard error. Returns CLI_FAILED. */
int target_fail(struct target *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints "job 12: text" on standard output unless --quiet is given. */
void target_say(const struct request *r, struct target *t, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The operation continues without this command: from now on an interrupt prints that. */
void target_goes_on(const struct target *t, const char *what);

/* Sleeps between two queries of slurmctld, longer from time to time. *round counts the calls and begins with 0. */
void target_pause(struct target *t, unsigned *round);

#endif
