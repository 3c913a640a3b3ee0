/* Runs a part of a check in a child process: a library, or a program that it becomes, may change or end the process, or
 * not answer. */
#ifndef FSCHED_CLI_DOCTOR_IN_CHILD_H
#define FSCHED_CLI_DOCTOR_IN_CHILD_H

#include <stddef.h>
#include <stdio.h>

/* Calls fn in a child, which is killed after 30 s. What fn writes to out, and what comes on standard error, is returned
 * up to max bytes; how the child was killed, if it wrote nothing. The caller frees it. *status: the exit status of fn
 * or of the program, -1 if there is none. */
char *in_child(int (*fn)(const void *arg, FILE *out), const void *arg, size_t max, int *status);

#endif
