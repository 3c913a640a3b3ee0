/* The value of --checkpoint on its way from sbatch to the node.
 *
 * sbatch writes it into the job's environment under two names: slurmstepd reads the first one; a later sbatch, srun or
 * salloc inside the job would read the second one as if the option had been given there. The job_submit plugin rewrites
 * both to
 *
 *   <interval>/<uuid>/<t|a>[l]    t: the user's open mode was truncate, a: append; l: --checkpoint-at-limit
 *
 * A user can write anything into an environment, so every reader validates. */
#ifndef FSCHED_SLURM_OPTION_H
#define FSCHED_SLURM_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/uuid_text.h"

#define OPTION_NAME          "checkpoint"
#define OPTION_ENV           "_SLURM_SPANK_OPTION_fsched_checkpoint"
#define OPTION_ENV_JOB       "SLURM_SPANK_" OPTION_ENV
/* --checkpoint-at-limit, which has no value; Slurm writes an empty one, or "(null)". */
#define OPTION_LIMIT         "checkpoint-at-limit"
#define OPTION_LIMIT_ENV     "_SLURM_SPANK_OPTION_fsched_checkpoint_at_limit"
#define OPTION_LIMIT_ENV_JOB "SLURM_SPANK_" OPTION_LIMIT_ENV
/* What the SPANK plugin sets in the script's environment so that MPI starts its ranks on this node without srun, which
 * would put them outside of the pod; and a variable with the names of those that the user had not set himself. */
#define MPI_SET_ENV          "FSCHED_MPI_LAUNCHER"
enum { MPI_VARIABLES = 5, MPI_OPENMPI = 2 /* from here on: all or none */ };
extern const struct mpi_variable {
	const char *name, *value;
} mpi_variables[MPI_VARIABLES]; /* value NULL: the tasks on the node */
#define OPTION_TEXT_MAX 64
#define OPTION_MAX      128 /* the whole value */

struct option_value {
	char interval_text[OPTION_TEXT_MAX];
	int64_t interval; /* s, INTERVAL_ON_REQUEST */
	char uuid[UUID_TEXT_LEN + 1];
	bool truncate;
	bool at_limit;
};

/* The value in "NAME=value" if NAME is one of the two names, else NULL. */
const char *option_in_env(const char *element);
/* Whether element is one of the two names of --checkpoint-at-limit. */
bool option_limit_in_env(const char *element);

/* What the user gave: only the interval; whatever stands behind the first '/' is not the user's to say and is dropped.
 */
int option_parse_submitted(const char *value, struct option_value *v, struct err *err);
/* What the job_submit plugin wrote: all three parts, strictly. */
int option_parse(const char *value, struct option_value *v, struct err *err);
/* buf of OPTION_MAX bytes. Returns buf. */
char *option_format(const struct option_value *v, char *buf, size_t len);

/* Tasks of an array share the environment of the array. Each is a job of its own, with a uuid that follows from both.
 */
void option_uuid_of_task(const char *array_uuid, uint32_t task, char uuid[UUID_TEXT_LEN + 1]);

#endif
