/* Reads and writes JSON. A text that root reads is limited in size, every member has a type, and any deviation is an
 * error.
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

/* Reads and parses the file name below dirfd, at most max bytes, which must hold an object. what: the name of the file
 * for messages. The caller owns the result. NULL with err after a failure; err.num is EBADMSG if the text is not a JSON
 * object, else the errno of reading. */
json_t *json_read_at(int dirfd, const char *name, size_t max, const char *what, struct err *err);
/* The same for a text of len bytes that is in memory. */
json_t *json_read_text(const char *text, size_t len, const char *what, struct err *err);

/* Copy the member key of obj. Return 0, or -1 with err.num = EBADMSG if it is missing, has another type or is out of
 * range. */
int json_get_text(const json_t *obj, const char *key, char *buf, size_t len, struct err *err);
int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err);
int json_get_uint(const json_t *obj, const char *key, unsigned *out, struct err *err);
int json_get_bool(const json_t *obj, const char *key, bool *out, struct err *err);
/* The result is borrowed from obj; NULL after a failure. max: elements. */
json_t *json_get_list(const json_t *obj, const char *key, size_t max, struct err *err);

/* A name of arbitrary bytes (no NUL), see above. */
int json_set_name(json_t *obj, const char *key, const char *name);
int json_get_name(const json_t *obj, const char *key, char *buf, size_t len, struct err *err);

/* Makes a string of a text for people that may have any bytes. Control characters and bytes that are not UTF-8 (of a
 * file name, or of a character that the end of a buffer has cut) become "?". Never NULL. json_string() and
 * json_pack("s") fail for such a text. */
json_t *json_text(const char *text);

/* An array of numbers: the supplementary groups of a job. Never NULL. */
json_t *json_gids(const gid_t *gids, int n);

/* Appends a warning to the list; NULL = drops it. The list goes from the worker to the agent and on to a client in one
 * line, so its size is limited. When it is full, the last warning says that further warnings are left out. */
#define JSON_WARNINGS_MAX   50    /* warnings */
#define JSON_WARNINGS_BYTES 12000 /* bytes of all texts; at most three times as many when written as ASCII */
void json_warn(json_t *warnings, const char *text);

static inline void json_cleanup(json_t **j)
{
	json_decref(*j);
}
#define cleanup_json __attribute__((cleanup(json_cleanup)))

#endif
