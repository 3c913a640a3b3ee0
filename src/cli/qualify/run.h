/* The runs of a qualification. Each has a directory of its own: DIR/KIND with work, stdout and stderr. */
#ifndef FSCHED_CLI_QUALIFY_RUN_H
#define FSCHED_CLI_QUALIFY_RUN_H

#include "cli/qualify/session.h"

/* Makes the directory for the runs, and copies the script and what each run begins with into it. 0, or -1 with err. */
int run_prepare(struct session *s, const char *script_text, size_t script_len, struct err *err);

/* Makes all runs, one after the other, and compares them. Ends early where a later run would tell nothing. What goes
 * wrong is in s->r. */
void run_all(struct session *s);

#endif
