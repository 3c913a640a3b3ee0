/* Which task runs where: a table, whose rows may be of several nodes. */
#ifndef FSCHED_LAUNCH_PLACEMENT_H
#define FSCHED_LAUNCH_PLACEMENT_H

#include <sched.h>
#include <stdbool.h>
#include "launch/job.h"
#include "launch/options.h"

/* CPUs of the job by their index among them, not by their number on the node. */
#define PLACEMENT_CPUS 1024
struct cpu_list {
	int n;
	int index[PLACEMENT_CPUS]; /* ascending */
};

struct place {
	int task, node, local; /* ids: in the step, of the node in the step, on the node */
	cpu_set_t cpus;        /* empty: the task may run where the launcher may */
};

enum bind_kind { BIND_AUTO, BIND_NONE, BIND_THREADS, BIND_CORES, BIND_SOCKETS, BIND_RANK, BIND_MAP, BIND_MASK };

struct binding {
	enum bind_kind kind;
	bool given; /* by --cpu-bind, --hint or an option that implies one */
	bool verbose;
	char *list; /* of map_cpu and mask_cpu, and what BIND_AUTO has become; owned, or NULL */
};

struct placement {
	int ntasks, nodes;
	int cpus_per_task;        /* 1 if not given */
	bool exact;               /* the step gets only the CPUs that it asks for */
	int cpus;                 /* that it gets on this node */
	const char *distribution; /* text for the environment */
	struct binding bind;
	struct place *v; /* one for each task */
};

/* Reads how many tasks there are and what they need. Says what is wrong and ends the program as srun does. */
void placement_count(struct placement *p, const struct options *o, const struct job *j);
/* Fills in the table for the CPUs that the step has got. */
void placement_make(struct placement *p, const struct job *j, const struct cpu_list *cpus);
/* "0x3", in hexadecimal digits. The caller frees. */
char *placement_mask(const cpu_set_t *cpus);

#endif
