/* What a command line of scontrol means, decided by scontrol's own option table. */
#ifndef FSCHED_CLI_SHIM_SCAN_H
#define FSCHED_CLI_SHIM_SCAN_H

#include <stdbool.h>

struct shim_scan {
	bool checkpoint; /* the keyword is checkpoint: the arguments behind it begin at argv[next] */
	int next;
	bool quiet;          /* -Q in front of the keyword */
	const char *cluster; /* argument of -M in front of the keyword, NULL = none */
	const char *uid;     /* argument of -u, NULL = none */
};

/* argv is left as it is. Uses getopt's global state. */
struct shim_scan shim_scan(int argc, char **argv);

#endif
