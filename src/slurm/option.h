/* The value of the option --checkpoint between sbatch and the node.
 *
 * sbatch writes it into the job's environment under two names. slurmstepd reads the first. A later sbatch, srun or
 * salloc inside the job would read the second as if the option had been given to it. The job_submit plugin rewrites
 * both to
 *
 *   <interval>/<uuid>/<t|a>[l|n[SECONDS]][c|r][b|u]
 *
 * t: the user's open mode was truncate, a: append; l: --checkpoint-at-limit=hold, n: =continue, up to SECONDS of
 * running time; c, r: --checkpoint-tcp=close, =refuse; b, u: --checkpoint-on-requeue=restart, =resume.
 *
 * A user can write anything into an environment, so every reader validates the value. */
#ifndef FSCHED_SLURM_OPTION_H
#define FSCHED_SLURM_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/uuid_text.h"

#define OPTION_NAME            "checkpoint"
#define OPTION_ENV             "_SLURM_SPANK_OPTION_fsched_checkpoint"
#define OPTION_ENV_JOB         "SLURM_SPANK_" OPTION_ENV
/* Without a value Slurm writes an empty one or "(null)". */
#define OPTION_LIMIT           "checkpoint-at-limit"
#define OPTION_LIMIT_ENV       "_SLURM_SPANK_OPTION_fsched_checkpoint_at_limit"
#define OPTION_LIMIT_ENV_JOB   "SLURM_SPANK_" OPTION_LIMIT_ENV
#define OPTION_TCP             "checkpoint-tcp"
#define OPTION_TCP_ENV         "_SLURM_SPANK_OPTION_fsched_checkpoint_tcp"
#define OPTION_TCP_ENV_JOB     "SLURM_SPANK_" OPTION_TCP_ENV
#define OPTION_REQUEUE         "checkpoint-on-requeue"
#define OPTION_REQUEUE_ENV     "_SLURM_SPANK_OPTION_fsched_checkpoint_on_requeue"
#define OPTION_REQUEUE_ENV_JOB "SLURM_SPANK_" OPTION_REQUEUE_ENV
/* The job's hooks: their values stay in the job's environment until the node reads them. Each acts with the user's
 * rights only, so it does not matter who wrote them. */
#define OPTION_SIGNAL          "checkpoint-signal"
#define OPTION_SIGNAL_ENV      "_SLURM_SPANK_OPTION_fsched_checkpoint_signal"
#define OPTION_BEFORE          "checkpoint-before"
#define OPTION_BEFORE_ENV      "_SLURM_SPANK_OPTION_fsched_checkpoint_before"
#define OPTION_AFTER           "checkpoint-after"
#define OPTION_AFTER_ENV       "_SLURM_SPANK_OPTION_fsched_checkpoint_after"
#define OPTION_ENV_PREFIX      "SLURM_SPANK_" /* of the second name of each of these */
#define OPTION_COMMAND_MAX     4096           /* bytes of a command */
/* MPI must start its ranks on this node without srun, which would put them outside of the pod. For that the SPANK
 * plugin sets mpi_variables in the script's environment, and MPI_SET_ENV to the names of those that the user had not
 * set. */
#define MPI_SET_ENV            "FSCHED_MPI_LAUNCHER"
enum { MPI_VARIABLES = 8, MPI_OPENMPI = 2 /* index of the first of Open MPI's, of which all or none are set */ };
extern const struct mpi_variable {
	const char *name, *value;
} mpi_variables[MPI_VARIABLES]; /* value NULL: the number of tasks on the node */
/* sbatch sets these in each job since Slurm 23.11, unless the user has. The second is for the srun of Intel's mpiexec.
 */
#define MPI_INTEL             "I_MPI_HYDRA_BOOTSTRAP"
#define MPI_INTEL_SLURMS      "slurm"
#define MPI_INTEL_ARGS        "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS"
#define MPI_INTEL_ARGS_SLURMS "--external-launcher"
#define OPTION_TEXT_MAX       64
#define OPTION_MAX            128 /* bytes of the whole value */

enum option_limit { OPTION_LIMIT_NONE, OPTION_LIMIT_HOLD, OPTION_LIMIT_CONTINUE };
enum option_tcp { OPTION_TCP_NONE, OPTION_TCP_REFUSE, OPTION_TCP_CLOSE }; /* none: CheckpointTcp holds */
enum option_requeue {
	OPTION_REQUEUE_NONE,
	OPTION_REQUEUE_RESUME,
	OPTION_REQUEUE_RESTART
}; /* none: CheckpointOnRequeue */

struct option_value {
	char interval_text[OPTION_TEXT_MAX];
	int64_t interval; /* s, INTERVAL_ON_REQUEST, INTERVAL_AUTO */
	char uuid[UUID_TEXT_LEN + 1];
	bool truncate;
	enum option_limit at_limit;
	int64_t total; /* OPTION_LIMIT_CONTINUE: s of running time after which the job is held, 0 = no bound */
	enum option_tcp tcp;
	enum option_requeue on_requeue;
};

/* The value in an element "NAME=value" of an environment if NAME is one of the two names, else NULL. */
const char *option_in_env(const char *element);
/* The value of --checkpoint-at-limit in element, else NULL. */
const char *option_limit_in_env(const char *element);
/* "", "(null)", "hold", "continue" or "continue:TIME" (interval.h). 0 and v->at_limit, v->total; -1 with err. */
int option_limit_parse(const char *value, struct option_value *v, struct err *err);
/* The value of --checkpoint-tcp in element, else NULL. */
const char *option_tcp_in_env(const char *element);
/* 0; -1: it is neither "refuse" nor "close". */
int option_tcp_parse(const char *value, enum option_tcp *tcp);
/* The value of --checkpoint-on-requeue in element, else NULL. */
const char *option_requeue_in_env(const char *element);
/* 0; -1: it is neither "resume" nor "restart". */
int option_requeue_parse(const char *value, enum option_requeue *on_requeue);

struct option_signal {
	int number; /* 0 = none */
	bool script_only;
	unsigned seconds; /* before the checkpoint */
};
#define OPTION_SIGNAL_SECONDS_MAX 3600
/* "[B:]SIG@SECONDS", SIG a number, or a name with or without "SIG". 0; -1 with err. */
int option_signal_parse(const char *value, struct option_signal *s, struct err *err);

/* Parses what the user gave: only the interval. Whatever follows the first '/' is ignored: it is not for the user to
 * set. 0 or -1.
 */
int option_parse_submitted(const char *value, struct option_value *v, struct err *err);
/* Parses what the job_submit plugin wrote: all three parts, strictly. 0; -1: err.num ENOENT: the plugin has not seen
 * the job. */
int option_parse(const char *value, struct option_value *v, struct err *err);
/* Formats all three parts into buf, of OPTION_MAX bytes. Returns buf. */
char *option_format(const struct option_value *v, char *buf, size_t len);

/* The tasks of an array share the environment of the array, but each is a job of its own. Derives the uuid of a task
 * from the uuid of the array and the number of the task.
 */
void option_uuid_of_task(const char *array_uuid, uint32_t task, char uuid[UUID_TEXT_LEN + 1]);

#endif
