/* The steps of the job that run: a small table in the pod's /dev/shm, which the launchers share. It says which CPUs of
 * the job are taken, and which number the next step gets. It is part of every checkpoint. */
#ifndef FSCHED_LAUNCH_STEPS_H
#define FSCHED_LAUNCH_STEPS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "launch/placement.h"

struct step_request {
	const char *name;
	int ntasks;
	int wanted;   /* CPUs */
	bool exact;   /* only as many as wanted, not all that are free */
	bool overlap; /* neither waits for CPUs nor takes them from other steps */
	int cpus;     /* of the job */
};

/* Takes CPUs for a step of this process. 0: *step is its number and *cpus are its CPUs. 1: too few are free. -1 with
 * err. */
int steps_begin(const struct step_request *r, int *step, struct cpu_list *cpus, struct err *err);
struct step_end {
	const char *name;
	int step, ntasks, status; /* wait status that stands for all tasks */
	uint64_t max_rss;         /* KiB, of the largest process */
};

/* Gives the CPUs back, and notes how the step has ended (NULL: it has not begun). */
void steps_end(const struct step_end *e);

#endif
