/* A PMIx server for the tasks of one step (Open MPI). It is a module, fsched-pmix.so, which is linked with libpmix, and
 * is loaded only for --mpi=pmix: jobs without it need no libpmix, and the launcher has no threads. */
#ifndef FSCHED_LAUNCH_PMIX_MODULE_H
#define FSCHED_LAUNCH_PMIX_MODULE_H

#include "base/err.h"

struct pmix_step {
	const char *job_id, *host, *tmpdir; /* host must stay until begin() returns */
	int step, ntasks;
	int abort_fd; /* gets an int, the exit code, when a task has asked for the end of the step */
};

/* The module's only symbol. All return 0 or -1 with err. */
#define PMIX_SYMBOL "fsched_pmix"
struct pmix_calls {
	int (*begin)(const struct pmix_step *s, struct err *err);
	/* Adds the variables of a task to a list of malloc()ed "NAME=value", NULL-terminated, which may move. */
	int (*env)(int task, char ***env, struct err *err);
	void (*end)(void);
};

#endif
