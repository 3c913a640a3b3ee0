/* JSON as root reads it: bounded, typed, every difference an error.
 *
 * File names are bytes, JSON text is UTF-8. A name is written as it is when it
 * is valid UTF-8; otherwise every byte outside '!'..'~', and '%' itself, becomes
 * %XX, and a second member "<key>_encoding": "percent" says so.
 */
#ifndef FSCHED_BASE_JSON_H
#define FSCHED_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "base/err.h"

/* Reads and parses a file below dirfd whose top is an object. what: how messages call it.
 * err.num: ENOENT and other errno values of reading, EBADMSG when it is not what it should be. */
json_t *json_read_at(int dirfd, const char *name, size_t max, const char *what, struct err *err);

/* Members of obj. 0, or -1 with err.num = EBADMSG and the key named. */
int json_get_text(const json_t *obj, const char *key, char *buf, size_t len, struct err *err);
int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err);
int json_get_uint(const json_t *obj, const char *key, unsigned *out, struct err *err);
int json_get_bool(const json_t *obj, const char *key, bool *out, struct err *err);
/* Borrowed; NULL on failure. */
json_t *json_get_list(const json_t *obj, const char *key, size_t max, struct err *err);

/* A name of arbitrary bytes (no NUL), see above. */
int json_set_name(json_t *obj, const char *key, const char *name);
int json_get_name(const json_t *obj, const char *key, char *buf, size_t len, struct err *err);

/* A text to be shown, whatever its bytes: what is no UTF-8 (a name, or a character cut in two by the end of a buffer)
 * and control characters become "?". Never NULL. json_string() and json_pack("s") refuse such a text, and the whole
 * object with it. */
json_t *json_text(const char *text);

/* An array of numbers: the supplementary groups of a job. Never NULL. */
json_t *json_gids(const gid_t *gids, int n);

/* Appends a warning to the list (NULL: drops it). The list goes from the worker to the agent and on to a client in one
 * line, so it is bounded in all: what does not fit is left out, and said to be. */
#define JSON_WARNINGS_MAX   50    /* warnings */
#define JSON_WARNINGS_BYTES 12000 /* of them; three times as many when they are written as ASCII */
void json_warn(json_t *warnings, const char *text);

static inline void json_cleanup(json_t **j)
{
	json_decref(*j);
}
#define cleanup_json __attribute__((cleanup(json_cleanup)))

#endif
