/* The environment of the tasks, as Slurm's srun and slurmstepd make it. */
#ifndef FSCHED_LAUNCH_TASK_ENV_H
#define FSCHED_LAUNCH_TASK_ENV_H

#include "launch/job.h"
#include "launch/options.h"
#include "launch/placement.h"

/* A list of "NAME=value", NULL-terminated. */
struct env {
	char **v;
	size_t n, room;
};

void env_set(struct env *e, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void env_unset(struct env *e, const char *name);
const char *env_get(const struct env *e, const char *name);
void env_free(struct env *e);
/* Takes over the list v, which may be e->v after a change by others. */
void env_adopt(struct env *e, char **v);
void env_copy(struct env *to, const struct env *from);

/* What all tasks have in common. */
void task_env_of_step(struct env *e, const struct options *o, const struct job *j, const struct placement *p, int step);
/* Adds what is the task's own, but for SLURM_TASK_PID. */
void task_env_of_task(struct env *e, const struct place *t);

#endif
