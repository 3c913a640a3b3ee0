/* The result of a qualification as text, JSON and HTML. Texts that come from users are printable already or become so
 * here. */
#ifndef FSCHED_CLI_QUALIFY_OUTPUT_H
#define FSCHED_CLI_QUALIFY_OUTPUT_H

#include <jansson.h>
#include <stdio.h>
#include "cli/qualify/qualify_data.h"

/* For people, at most 80 columns as far as words allow it. */
void output_text(FILE *out, const struct qualify_result *r);
/* The object of --json (docs/json.md); the caller owns it. */
json_t *output_json(const struct qualify_result *r);
/* One page without script that needs no network. */
void output_page(FILE *out, const struct qualify_result *r);

/* What the table of runs says of the comparison, and of the cycles ("2 of 3", "-"). buf: 32 bytes. */
const char *output_compared(const struct qualify_run *run);
char *output_cycles(const struct qualify_result *r, const struct qualify_run *run, char *buf, size_t len);
/* "2.1 %", or why it is not known. buf: 64 bytes. */
char *output_slow_down(const struct qualify_result *r, char *buf, size_t len);

#endif
