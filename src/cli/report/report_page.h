/* The page of `fsched report`: one HTML file without script that needs no network. */
#ifndef FSCHED_CLI_REPORT_REPORT_PAGE_H
#define FSCHED_CLI_REPORT_REPORT_PAGE_H

#include <stdio.h>
#include "cli/report/report_data.h"

#define REPORT_SECTIONS 200 /* jobs with a section of their own; the others are in the table */

void report_page(FILE *out, const struct report *r);
/* One job (job_section.c). */
void report_job_section(FILE *out, const struct report *r, size_t i);

#endif
