/* Runs a program that may take long, in a time limit, and collects what it prints. */
#ifndef FSCHED_CLI_QUALIFY_COMMAND_H
#define FSCHED_CLI_QUALIFY_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define COMMAND_OUTPUT 65536 /* bytes of each output that are kept */

struct command {
	char *const *argv; /* argv[0] is looked up in PATH. There is no shell */
	int64_t until;     /* now_us(); it is killed then */
	/* Called every 100 ms; when it returns true, the program is killed. NULL: an interrupt does not end it. */
	bool (*stop)(void *arg);
	void *arg;
};

struct command_result {
	int status; /* its exit status; 128 + N after signal N */
	bool late, stopped;
	char *out, *err; /* owned, never NULL */
};

/* The program gets the caller's environment and directory, /dev/null as input, and a process group of its own, so that
 * ^C on the terminal does not reach it. 0; -1 with err: it could not be begun (status 127 if there is no such program).
 */
int command_run(const struct command *c, struct command_result *r, struct err *err);
void command_free(struct command_result *r);

/* What the program said of its failure, in one line: the lines of its standard error, without prefix where they begin
 * with it (NULL = none). buf is filled with printable text, never empty. Returns buf. */
char *command_said(const struct command_result *r, const char *prefix, char *buf, size_t len);

#endif
