/* `fsched doctor`: the checks, each of which reports lines "ok|warning|failed  what - finding; what to do". */
#ifndef FSCHED_CLI_DOCTOR_DOCTOR_H
#define FSCHED_CLI_DOCTOR_DOCTOR_H

#include <stdbool.h>
#include "base/conf.h"

enum finding { FINDING_OK, FINDING_WARNING, FINDING_FAILED };

void doctor_report(enum finding f, const char *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A check that is left out without root. Remembered, and named at the end. */
void doctor_needs_root(const char *what);

void doctor_criu(const struct conf *c, bool root);
void doctor_kernel(bool root);
void doctor_munge(const struct conf *c);
void doctor_clock(void);
void doctor_slurm(const struct conf *c, bool root);
void doctor_store(const struct conf *c, bool root);
void doctor_pod_dir(const struct conf *c, bool root);

#endif
