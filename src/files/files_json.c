/* The record of one file in the manifest. "?" marks members that may be missing:
 *
 *   {"path", "path_encoding"?, "class": "absent"}
 *
 * or an object with
 *
 *   "path", "path_encoding"?
 *   "dev", "ino", "size", "mode", "gid"?, "acl"?: true
 *   "mtime": [s, ns], "ctime": [s, ns]
 *   "class": "append" | "inplace" | "closed"
 *   "tail"?: SHA-256, "digest"?: SHA-256
 *   "saved"?: name below files/, "saved_size"?
 *   "leased"?: true, "appends"?: true
 */
#include "files/files_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"
#include "base/json.h"

const char *show_path(const char *path, char buf[FILES_SHOWN])
{
	char clean[FILES_SHOWN - 8];
	size_t len = strlen(path);
	bool cut = len >= sizeof(clean);

	printable(cut ? path + len - (sizeof(clean) - 1) : path, clean, sizeof(clean));
	snprintf(buf, FILES_SHOWN, "%s%s", cut ? "..." : "", clean);
	return buf;
}

void add_warning(json_t *warnings, const char *fmt, ...)
{
	cleanup_free char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	else
		json_warn(warnings, text);
}

bool same_timestamp(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static json_t *file_record_render_time(const struct timespec *t)
{
	return json_pack("[I,I]", (json_int_t)t->tv_sec, (json_int_t)t->tv_nsec);
}

static const char *const class_names[] = {
	[FILE_APPEND] = "append",
	[FILE_INPLACE] = "inplace",
	[FILE_CLOSED] = "closed",
	[FILE_ABSENT] = "absent",
};

static json_t *file_record_render_absent(const struct file_record *r)
{
	cleanup_json json_t *o = json_pack("{s:s}", "class", class_names[FILE_ABSENT]);

	return o && json_set_name(o, "path", r->path) == 0 ? steal_ptr(&o) : NULL;
}

json_t *file_record_render(const struct file_record *r)
{
	if (r->class == FILE_ABSENT)
		return file_record_render_absent(r);
	cleanup_json json_t *o = json_pack("{s:I,s:I,s:I,s:I,s:o,s:o,s:s}", "dev", (json_int_t)r->dev, "ino",
					   (json_int_t)r->ino, "size", (json_int_t)r->size, "mode", (json_int_t)r->mode,
					   "mtime", file_record_render_time(&r->mtime), "ctime",
					   file_record_render_time(&r->ctime), "class", class_names[r->class]);

	if (!o || json_set_name(o, "path", r->path) < 0)
		return NULL;
	if (r->gid != (gid_t)-1 && json_object_set_new(o, "gid", json_integer((json_int_t)r->gid)) < 0)
		return NULL;
	if (r->acl && json_object_set_new(o, "acl", json_true()) < 0)
		return NULL;
	if (*r->tail && json_object_set_new(o, "tail", json_string(r->tail)) < 0)
		return NULL;
	if (*r->digest && json_object_set_new(o, "digest", json_string(r->digest)) < 0)
		return NULL;
	if (r->leased && json_object_set_new(o, "leased", json_true()) < 0)
		return NULL;
	if (r->appends && json_object_set_new(o, "appends", json_true()) < 0)
		return NULL;
	if (*r->saved && (json_object_set_new(o, "saved", json_string(r->saved)) < 0 ||
			  json_object_set_new(o, "saved_size", json_integer(r->saved_size)) < 0))
		return NULL;
	return steal_ptr(&o);
}

static int file_record_parse_time(const json_t *o, const char *key, struct timespec *t, struct err *err)
{
	const json_t *v = json_object_get(o, key);
	const json_t *s = json_array_get(v, 0), *ns = json_array_get(v, 1);

	if (!json_is_integer(s) || !json_is_integer(ns) || json_integer_value(ns) < 0 ||
	    json_integer_value(ns) > 999999999)
		return err_set(err, EBADMSG, "member \"%s\" is no time", key);
	t->tv_sec = (time_t)json_integer_value(s);
	t->tv_nsec = (long)json_integer_value(ns);
	return 0;
}

/* True for NNNNNN.data, as record_save_copy() names copies: such a name cannot lead out of files/. */
static bool saved_name_is_plain(const char *name)
{
	size_t digits = strspn(name, "0123456789");

	return digits >= 6 && strcmp(name + digits, ".data") == 0;
}

static int file_record_parse_copy(const json_t *o, struct file_record *r, struct err *err)
{
	if (json_object_get(o, "tail") && json_get_text(o, "tail", r->tail, sizeof(r->tail), err) < 0)
		return -1;
	if (json_object_get(o, "digest") && json_get_text(o, "digest", r->digest, sizeof(r->digest), err) < 0)
		return -1;
	r->leased = json_is_true(json_object_get(o, "leased"));
	r->appends = json_is_true(json_object_get(o, "appends"));
	if (!json_object_get(o, "saved"))
		return 0;
	if (json_get_text(o, "saved", r->saved, sizeof(r->saved), err) < 0 ||
	    json_get_int(o, "saved_size", 0, r->size, &r->saved_size, err) < 0)
		return -1;
	if (!saved_name_is_plain(r->saved))
		return err_set(err, EBADMSG, "member \"saved\" is no name of a copy");
	return 0;
}

static int file_record_parse_class(const json_t *o, enum file_class *class, struct err *err)
{
	char name[16];

	if (json_get_text(o, "class", name, sizeof(name), err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(class_names); i++)
		if (strcmp(name, class_names[i]) == 0) {
			*class = (enum file_class)i;
			return 0;
		}
	return err_set(err, EBADMSG, "member \"class\" is not a known one");
}

static int file_record_parse_state(const json_t *o, struct file_record *r, struct err *err)
{
	int64_t dev, ino, mode, gid = -1;

	if (json_get_int(o, "dev", INT64_MIN, INT64_MAX, &dev, err) < 0 ||
	    json_get_int(o, "ino", INT64_MIN, INT64_MAX, &ino, err) < 0 ||
	    json_get_int(o, "size", 0, INT64_MAX, &r->size, err) < 0 ||
	    json_get_int(o, "mode", 0, 0177777, &mode, err) < 0 ||
	    (json_object_get(o, "gid") && json_get_int(o, "gid", 0, UINT32_MAX, &gid, err) < 0) ||
	    file_record_parse_time(o, "mtime", &r->mtime, err) < 0 ||
	    file_record_parse_time(o, "ctime", &r->ctime, err) < 0 || file_record_parse_copy(o, r, err) < 0)
		return -1;
	r->dev = (uint64_t)dev;
	r->ino = (uint64_t)ino;
	r->mode = (mode_t)mode & 07777;
	r->gid = (gid_t)gid;
	r->acl = json_is_true(json_object_get(o, "acl"));
	return 0;
}

int file_record_parse(const json_t *o, struct file_record *r, struct err *err)
{
	memset(r, 0, sizeof(*r));
	if (!json_is_object(o))
		return err_set(err, EBADMSG, "no JSON object");
	if (json_get_name(o, "path", r->path, sizeof(r->path), err) < 0 || file_record_parse_class(o, &r->class, err) < 0)
		return -1;
	if (!path_is_plain(r->path))
		return err_set(err, EBADMSG, "member \"path\" is no absolute path without \".\" and \"..\"");
	return r->class == FILE_ABSENT ? 0 : file_record_parse_state(o, r, err);
}
