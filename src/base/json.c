#include "base/json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

json_t *json_read_at(int dirfd, const char *name, size_t max, const char *what, struct err *err)
{
	cleanup_free char *text = NULL;
	ssize_t n;

	n = read_file_at(dirfd, name, max, &text);
	if (n < 0) {
		err_sys(err, errno, "cannot read %s", what);
		return NULL;
	}
	return json_read_text(text, (size_t)n, what, err);
}

json_t *json_read_text(const char *text, size_t len, const char *what, struct err *err)
{
	cleanup_json json_t *root = NULL;
	json_error_t jerr;

	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &jerr);
	if (!root) {
		err_set(err, EBADMSG, "%s is damaged: line %d: %s", what, jerr.line, jerr.text);
		return NULL;
	}
	if (!json_is_object(root)) {
		err_set(err, EBADMSG, "%s is damaged: no JSON object", what);
		return NULL;
	}
	return steal_ptr(&root);
}

static int json_bad_member(struct err *err, const char *key, const char *expected)
{
	return err_set(err, EBADMSG, "member \"%s\" is missing or is not %s", key, expected);
}

int json_get_text(const json_t *obj, const char *key, char *buf, size_t len, struct err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!json_is_string(v) || json_string_length(v) >= len)
		return json_bad_member(err, key, "a text of the allowed length");
	memcpy(buf, json_string_value(v), json_string_length(v) + 1);
	return 0;
}

int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		return json_bad_member(err, key, "a number in its range");
	*out = json_integer_value(v);
	return 0;
}

int json_get_uint(const json_t *obj, const char *key, unsigned *out, struct err *err)
{
	int64_t v;

	if (json_get_int(obj, key, 0, UINT_MAX, &v, err) < 0)
		return -1;
	*out = (unsigned)v;
	return 0;
}

int json_get_bool(const json_t *obj, const char *key, bool *out, struct err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!json_is_boolean(v))
		return json_bad_member(err, key, "true or false");
	*out = json_is_true(v);
	return 0;
}

json_t *json_get_list(const json_t *obj, const char *key, size_t max, struct err *err)
{
	json_t *v = json_object_get(obj, key);

	if (!json_is_array(v) || json_array_size(v) > max) {
		json_bad_member(err, key, "a list of the allowed length");
		return NULL;
	}
	return v;
}

static char *json_percent_encode(const char *name)
{
	char *out = xmalloc(strlen(name) * 3 + 1), *p = out;

	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (c > ' ' && c < 0x7f && c != '%')
			*p++ = (char)c;
		else
			p += sprintf(p, "%%%02X", c);
	}
	*p = '\0';
	return out;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes in place. Returns -1 for a text that json_percent_encode() does not write. */
static int json_percent_decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		int hi, lo;

		if (*s != '%') {
			*out++ = *s;
			continue;
		}
		hi = hex_digit(s[1]);
		lo = hi < 0 ? -1 : hex_digit(s[2]);
		if (lo < 0 || hi * 16 + lo == 0)
			return -1;
		*out++ = (char)(hi * 16 + lo);
		s += 2;
	}
	*out = '\0';
	return 0;
}

int json_set_name(json_t *obj, const char *key, const char *name)
{
	cleanup_free char *encoded = NULL;
	char flag[64];

	if (json_object_set_new(obj, key, json_string(name)) == 0)
		return 0;
	encoded = json_percent_encode(name);
	snprintf(flag, sizeof(flag), "%s_encoding", key);
	if (json_object_set_new(obj, key, json_string(encoded)) < 0)
		return -1;
	return json_object_set_new(obj, flag, json_string("percent"));
}

int json_get_name(const json_t *obj, const char *key, char *buf, size_t len, struct err *err)
{
	cleanup_free char *text = NULL;
	const json_t *encoding;
	char flag[64], how[16];

	snprintf(flag, sizeof(flag), "%s_encoding", key);
	encoding = json_object_get(obj, flag);
	if (!encoding)
		return json_get_text(obj, key, buf, len, err);
	if (json_get_text(obj, flag, how, sizeof(how), err) < 0)
		return -1;
	text = xmalloc(len * 3 + 1);
	if (json_get_text(obj, key, text, len * 3 + 1, err) < 0)
		return -1;
	if (strcmp(how, "percent") != 0 || json_percent_decode(text) < 0 || strlen(text) >= len)
		return json_bad_member(err, key, "a name in a known encoding");
	memcpy(buf, text, strlen(text) + 1);
	return 0;
}

json_t *json_gids(const gid_t *gids, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_integer(gids[i]));
	return list;
}

json_t *json_text(const char *text)
{
	const size_t size = strlen(text) + 1;
	cleanup_free char *clean = xmalloc(size);

	return json_string(printable(text, clean, size));
}

void json_warn(json_t *warnings, const char *text)
{
	static const char more[] = "further warnings are left out";
	size_t i, n = json_array_size(warnings), bytes = 0;
	const json_t *w;

	if (n > 0 && !strcmp(json_string_value(json_array_get(warnings, n - 1)), more))
		return;
	json_array_foreach(warnings, i, w)
		bytes += json_string_length(w);
	if (n >= JSON_WARNINGS_MAX || bytes + strlen(text) > JSON_WARNINGS_BYTES)
		text = more;
	json_array_append_new(warnings, json_text(text));
}
