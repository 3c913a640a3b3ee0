/* The findings of `fsched doctor`, without --json one line of standard output for each, "ok|warning|failed  what -
 * finding; what to do". The counts of a run are kept here. */
#ifndef FSCHED_CLI_DOCTOR_DOCTOR_REPORT_H
#define FSCHED_CLI_DOCTOR_DOCTOR_REPORT_H

#include <stdbool.h>

enum finding { FINDING_OK, FINDING_WARNING, FINDING_FAILED };

/* json: the findings are collected, and printed as one object by doctor_summary(). */
void doctor_report_begin(bool json);
/* Prints and counts one finding. Control characters in the text are replaced. */
void doctor_report(enum finding f, const char *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Notes a check that is skipped without root; doctor_summary() names it. */
void doctor_needs_root(const char *what);
/* Prints the counts and, unless root, the checks that were skipped. Returns the number of failed checks. */
unsigned doctor_summary(bool root);

#endif
