/* Runs fsched-worker as a child: the request goes to its standard input, its events come from its standard output
 * (docs/internals.md). */
#ifndef FSCHED_CLI_WORKER_CALL_H
#define FSCHED_CLI_WORKER_CALL_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "base/err.h"

struct worker_call {
	const char *libexec; /* the directory of fsched's programs */
	const char *op;
	const char *label; /* of the progress on a terminal */
	int keep_fd;       /* a descriptor that the worker inherits, -1 = none */
	unsigned seconds;  /* which the operation may take; the worker keeps that itself, and is killed some time later
			    */
	unsigned timeout;  /* CheckpointTimeout, for the message */
	/* Called at the event "held"; true = kill the pod, false = let it run on. NULL: it runs on. */
	bool (*held)(void *arg, const json_t *event);
	void *arg;
	/* When it becomes true the worker's standard input is closed, upon which a proof ends. NULL: never. */
	const volatile sig_atomic_t *stop;
};

/* Runs one operation and waits for it. req: the request; the reference is taken. *result: what the worker has
 * answered, owned by the caller; NULL if it has not. 0, or -1 with err. */
int worker_call(const struct worker_call *o, json_t *req, json_t **result, struct err *err);
/* Prints the warnings of a result on standard error. command: as for cli_error(). */
void worker_call_print_warnings(const char *command, const json_t *result);

#endif
