/* Runs a program of fsched as a child and reads its answer. */
#ifndef FSCHED_BASE_HELPER_H
#define FSCHED_BASE_HELPER_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct helper {
	char *const *argv;    /* argv[0]: the path of the program */
	const char *variable; /* "NAME=VALUE" for its environment, beside PATH and SLURM_CONF; NULL = none */
	int keep;             /* a descriptor that it inherits; -1 = none */
	int64_t until;        /* now_us(); it is killed then */
	size_t answer_max;    /* bytes; what it prints beyond them is not read */
};

/* Returns what it has printed until it closed its output, it was killed, or answer_max was reached: a text that the
 * caller frees, "" if it cannot be run. Its standard error is thrown away. *status: its wait status. NULL with err: no
 * child could be made.
 *
 * The caller may have threads, and its child makes only system calls. */
char *helper_run(const struct helper *h, int *status, struct err *err);

#endif
