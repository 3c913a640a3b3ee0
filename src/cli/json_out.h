/* What --json prints: one object with the members "schema" (fsched.COMMAND) and "version" (of the schema). Members are
 * only added within a version; docs/json.md documents all of them. */
#ifndef FSCHED_CLI_JSON_OUT_H
#define FSCHED_CLI_JSON_OUT_H

#include <jansson.h>

/* The object to begin with. The caller owns it. */
json_t *json_out_new(const char *command, int version);
/* Prints it on standard output. */
void json_out_print(const json_t *o);

/* A text, with what is not printable replaced; "" becomes null. */
json_t *json_out_text(const char *text);
/* A time or another number of which 0 means that there is none: that becomes null. */
json_t *json_out_known(json_int_t n);

#endif
