/* The job and its node, as the environment of the batch script describes them. */
#ifndef FSCHED_LAUNCH_JOB_H
#define FSCHED_LAUNCH_JOB_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include "launch/options.h"

struct job {
	const char *id; /* SLURM_JOB_ID */
	char node[256]; /* Slurm's name of this node */
	char host[256]; /* its host name without the domain */
	char user[256];
	int cpus;                                          /* of the job on this node */
	bool binding;                                      /* slurm.conf has a task plugin that binds tasks to CPUs */
	bool file_append;                                  /* JobFileAppend of slurm.conf */
	int kill_wait;                                     /* s, KillWait of slurm.conf */
	int ctld_timeout;                                  /* s, SlurmctldTimeout of slurm.conf */
	char *task_prolog, *task_epilog, *prolog, *epilog; /* programs of slurm.conf, or NULL */
	cpu_set_t allowed;                                 /* the CPUs on which the launcher may run */
};

/* Reads the environment and slurm.conf, and fills in the options that slurm.conf has defaults for. */
void job_read(struct job *j, struct options *o);

#endif
