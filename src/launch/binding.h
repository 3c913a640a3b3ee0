/* --cpu-bind, --hint and the options that imply a binding. */
#ifndef FSCHED_LAUNCH_BINDING_H
#define FSCHED_LAUNCH_BINDING_H

#include "launch/placement.h"

/* Reads the options. Says what is wrong and ends the program as srun does. */
void binding_read(struct binding *b, const struct options *o, const struct job *j);
/* Sets the CPUs of each task. No effect if slurm.conf has no task plugin that binds. */
void binding_apply(struct placement *p, const struct job *j, const struct cpu_list *cpus);
/* "quiet" or "verbose"; "threads", "mask_cpu:" …; the list or "": for the environment. */
const char *binding_type(const struct binding *b);
/* "MASK", "MAP" …: for --cpu-bind=verbose. */
const char *binding_name(const struct binding *b);

#endif
