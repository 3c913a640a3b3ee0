/* A command of the job's user that runs in the pod and is no part of the job: it descends from a process outside, and
 * is gone, with all that it has started, when pod_command_run() returns. */
#ifndef FSCHED_POD_POD_COMMAND_H
#define FSCHED_POD_POD_COMMAND_H

#include <stdbool.h>
#include <sys/types.h>
#include "pod/pod.h"

struct pod_command {
	pid_t init;   /* host pid of the pod's pid 1 */
	pid_t script; /* pid in the pod of the process whose environment, output and error file the command gets */
	struct pod_cred cred;
	const char *text;             /* for sh -c */
	const char *dir;              /* working directory; the root directory if the user cannot use it */
	const char *const *variables; /* "NAME=value" in addition, NULL at the end */
	unsigned limit_s;             /* it is killed after that */
};

enum pod_command_end {
	POD_COMMAND_ENDED,
	POD_COMMAND_LATE, /* killed because of limit_s */
	POD_COMMAND_CUT,  /* killed because of the caller's standard input */
};
struct pod_command_outcome {
	enum pod_command_end how;
	int status; /* POD_COMMAND_ENDED: wait status of the shell */
};

/* The caller must be a process of its own for this: it enters the pod's namespaces. A line in its standard input, or
 * the end of that, ends the command, also if the caller has been killed. 0, or -1 with err: the command was not run. */
int pod_command_run(const struct pod_command *c, struct pod_command_outcome *o, struct err *err);

#endif
