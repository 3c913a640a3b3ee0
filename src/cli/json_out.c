#include "cli/json_out.h"

#include <stdio.h>

#include "base/json.h"
#include "base/util.h"

json_t *json_out_new(const char *command, int version)
{
	cleanup_free char *schema = xasprintf("fsched.%s", command);
	json_t *o = json_object();

	json_object_set_new(o, "schema", json_string(schema));
	json_object_set_new(o, "version", json_integer(version));
	return o;
}

void json_out_print(const json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(1));
	putchar('\n');
}

json_t *json_out_text(const char *text)
{
	return *text ? json_text(text) : json_null();
}

json_t *json_out_known(json_int_t n)
{
	return n ? json_integer(n) : json_null();
}
