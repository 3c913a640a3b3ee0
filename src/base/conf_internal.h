/* Shared by conf.c and conf_value.c: a row of the table of keys. */
#ifndef FSCHED_BASE_CONF_INTERNAL_H
#define FSCHED_BASE_CONF_INTERNAL_H

#include <stddef.h>
#include "base/conf.h"

enum conf_type {
	TYPE_PLUGIN,
	TYPE_BOOL,
	TYPE_UINT,
	TYPE_RATIO,
	TYPE_TIME,
	TYPE_BYTES,
	TYPE_DIR,
	TYPE_PATH,
	TYPE_PATHS,
	TYPE_PORTS,
	TYPE_FAILURE,
	TYPE_REQUEUE,
	TYPE_LOG,
	TYPE_ENGINE,
	TYPE_NETWORK,
	TYPE_TCP,
	TYPE_TMP,
	TYPE_RANGE,
	TYPE_PROVE,
	TYPE_LEVEL
};

/* Says why the key has no effect, because of other keys; NULL = it has an effect. */
typedef const char *conf_idle_fn(const struct conf *c);

struct conf_key {
	const char *name;
	enum conf_type type;
	size_t offset, size;
	unsigned min, max;  /* TYPE_UINT */
	conf_idle_fn *idle; /* NULL = the key always has an effect */
	const char *unset;  /* what an empty default means */
};

/* Sets the member of c from the text of a value. Returns 0, or -1 and in *why what is allowed, to be freed by the
 * caller. */
int conf_value_parse(const struct conf_key *k, const char *value, struct conf *c, char **why);
/* The value as it would stand in the file; the caller frees it. */
char *conf_value_format(const struct conf_key *k, const struct conf *c);

#endif
