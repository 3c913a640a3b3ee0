/* What MPI programs ask their launcher: PMI-1.1 and PMI-2 over PMI_FD, and PMIx by libpmix. */
#ifndef FSCHED_LAUNCH_MPI_H
#define FSCHED_LAUNCH_MPI_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "launch/options.h"
#include "launch/task_env.h"

struct pmi;
struct pmix_calls;

struct mpi {
	struct pmi *pmi;
	const struct pmix_calls *pmix; /* the loaded module */
	int abort[2];                  /* pipe: a PMIx client wants the end of the step */
	char *tmpdir;                  /* of PMIx, for this step alone; owned */
	const char *job_id;
	int step, ntasks;
};

struct mpi_job {
	enum mpi_type type;
	const char *job_id;
	int step, ntasks;
};

/* 0, or -1 with err. */
int mpi_begin(struct mpi *m, const struct mpi_job *j, struct err *err);
/* Adds the task's variables. 0, or -1 with err. */
int mpi_env(struct mpi *m, int task, struct env *e, struct err *err);
/* In the task's process: keeps its descriptor open over the exec, under the number that mpi_env() named. */
void mpi_in_task(const struct mpi *m, int task);
/* In the launcher, after the fork of a task. */
void mpi_forked(struct mpi *m, int task);
/* Descriptors for poll(): how many there are at most, and fills them in. */
size_t mpi_count(const struct mpi *m);
void mpi_prepare(const struct mpi *m, struct pollfd *p);
/* Answers. True: a task has asked to end the step, *code is its exit code; 0: that of the tasks counts, as with Slurm's
 * PMI-2. */
bool mpi_work(struct mpi *m, const struct pollfd *p, int *code);
void mpi_end(struct mpi *m);
/* Prints the types that --mpi= may have. */
void mpi_list(void);

#endif
