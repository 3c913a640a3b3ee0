/* The command line of `fsched qualify`. */
#ifndef FSCHED_CLI_QUALIFY_OPTIONS_H
#define FSCHED_CLI_QUALIFY_OPTIONS_H

#include "cli/qualify/qualify_data.h"

/* Returns 0, or the exit status + 1 with which the program is to end; messages have been printed. */
int options_read(int argc, char **argv, struct qualify_options *o);
void options_free(struct qualify_options *o);

#endif
