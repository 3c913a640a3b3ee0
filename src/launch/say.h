/* What the launcher says, in the form of Slurm's srun and slurmstepd. One write(2) a line, so that lines of several
 * launchers do not mix. */
#ifndef FSCHED_LAUNCH_SAY_H
#define FSCHED_LAUNCH_SAY_H

#include <stdbool.h>

/* verbose: how many -v; quiet: -Q, which leaves only errors. */
void say_set_level(int verbose, bool quiet);

/* Whether the terminal gets every character as it is: lines end with a carriage return then. */
void say_set_raw(bool raw);

/* "srun: error: …" */
void say_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "srun: warning: …" */
void say_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "srun: …" */
void say_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with -v. */
void say_verbose(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "slurmstepd-NODE: error: …", or with the time in place of the name: what Slurm's step daemon would say. */
void say_step_error(const char *node, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "srun: fatal: …", and exit status 1. */
_Noreturn void say_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
