/* Interprets a command line of scontrol by scontrol's own table of options. */
#ifndef FSCHED_CLI_SHIM_SCAN_H
#define FSCHED_CLI_SHIM_SCAN_H

#include <stdbool.h>

struct shim_scan {
	bool checkpoint; /* the keyword is "checkpoint"; its arguments begin at argv[next] */
	bool requeue;    /* the same for "requeue" and "requeuehold" */
	int next;
	bool quiet;          /* -Q before the keyword */
	const char *cluster; /* argument of -M before the keyword, NULL = none */
	const char *uid;     /* argument of -u, NULL = none */
};

/* Does not change argv. Uses the global state of getopt. */
struct shim_scan shim_scan(int argc, char **argv);

#endif
