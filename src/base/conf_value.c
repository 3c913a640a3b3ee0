/* Values of fsched.conf: from text to a member of struct conf, and back. */
#include "base/conf_internal.h"

#include <string.h>
#include <strings.h>

#include "base/interval.h"
#include "base/ipv4_range.h"
#include "base/util.h"

static int conf_refuse(char **why, char *text)
{
	*why = text;
	return -1;
}

static int conf_one_of(const char *value, const char *const *words)
{
	for (int i = 0; words[i]; i++) {
		if (strcasecmp(value, words[i]) == 0)
			return i;
	}
	return -1;
}

static int conf_parse_bool(const char *value, bool *out, char **why)
{
	static const char *const words[] = { "NO", "YES", "FALSE", "TRUE", "0", "1", NULL };
	int i = conf_one_of(value, words);

	if (i < 0)
		return conf_refuse(why, xstrdup("allowed: YES or NO"));
	*out = i % 2;
	return 0;
}

/* Parses decimal digits. A number above the range becomes a very large number. *rest is the text after the digits. */
static int conf_parse_digits(const char *value, uint64_t *out, const char **rest)
{
	const char *p = value;

	if (*p < '0' || *p > '9')
		return -1;
	for (*out = 0; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, (uint64_t)(*p - '0'), out))
			*out = UINT64_MAX / 10;
	}
	*rest = p;
	return 0;
}

static int conf_parse_uint(const struct conf_key *k, const char *value, unsigned *out, char **why)
{
	uint64_t number;
	const char *rest;

	if (conf_parse_digits(value, &number, &rest) < 0 || *rest)
		return conf_refuse(why, xasprintf("not a whole number, allowed: %u to %u", k->min, k->max));
	if (number < k->min || number > k->max)
		return conf_refuse(why, xasprintf("out of range, allowed: %u to %u", k->min, k->max));
	*out = (unsigned)number;
	return 0;
}

static int conf_parse_level(const struct conf_key *k, const char *value, int *out, char **why)
{
	unsigned number;

	if (!strcasecmp(value, "auto")) {
		*out = -1;
		return 0;
	}
	if (conf_parse_uint(k, value, &number, why) < 0) {
		free(*why);
		return conf_refuse(why, xasprintf("allowed: auto, or %u to %u", k->min, k->max));
	}
	*out = (int)number;
	return 0;
}

/* strtod() is not used, because it accepts nan, hexadecimal numbers and the decimal point of the locale. */
static int conf_parse_ratio(const char *value, double *out, char **why)
{
	double number = 0, weight = 1;
	const char *p = value;
	bool digits = false;

	for (; *p >= '0' && *p <= '9'; p++, digits = true)
		number = number * 10 + (*p - '0');
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++, digits = true) {
			number = number * 10 + (*p - '0');
			weight *= 10;
		}
	}
	if (!digits || *p)
		return conf_refuse(why, xstrdup(*value == '-' ? "out of range, allowed: 0.0 to 1.0"
							      : "not a number, allowed: 0.0 to 1.0"));
	/* Negated, so that nan, the quotient of two overflowed numbers, is refused as well. */
	if (!(number / weight <= 1))
		return conf_refuse(why, xstrdup("out of range, allowed: 0.0 to 1.0"));
	*out = number / weight;
	return 0;
}

static int conf_parse_time(const char *value, int64_t *out, char **why)
{
	if (interval_parse(value, out, NULL) || *out <= 0)
		return conf_refuse(why, xstrdup("not a time, allowed: minutes, minutes:seconds, hours:minutes:seconds, "
						"days-hours, days-hours:minutes or days-hours:minutes:seconds"));
	return 0;
}

#define BYTES_ALLOWED "allowed: a number of bytes, or with K, M, G or T behind it, at most 1024T"

static int conf_parse_bytes(const char *value, uint64_t *out, char **why)
{
	static const char suffixes[] = "KMGT";
	uint64_t number;
	const char *rest, *suffix = NULL;
	int shift = 0;

	if (conf_parse_digits(value, &number, &rest) < 0)
		return conf_refuse(why, xstrdup("not a size, " BYTES_ALLOWED));
	if (*rest) {
		suffix = strchr(suffixes, *rest >= 'a' ? *rest - 32 : *rest);
		if (!suffix || rest[1])
			return conf_refuse(why, xstrdup("not a size, " BYTES_ALLOWED));
		shift = 10 * (int)(suffix - suffixes + 1);
	}
	if (number > (1ULL << 50) >> shift)
		return conf_refuse(why, xstrdup("out of range, " BYTES_ALLOWED));
	*out = number << shift;
	return 0;
}

static int conf_parse_path(const char *value, char *out, size_t size, char **why)
{
	if (*value != '/')
		return conf_refuse(why, xstrdup("allowed: an absolute path"));
	if (strlen(value) >= size)
		return conf_refuse(why, xasprintf("too long, allowed: an absolute path of at most %zu bytes", size - 1));
	strcpy(out, value);
	return 0;
}

/* For directories below which root removes directories of jobs and pods. */
static int conf_parse_dir(const char *value, char *out, size_t size, char **why)
{
	size_t len;

	if (conf_parse_path(value, out, size, why) < 0)
		return -1;
	if (strstr(value, "/../") || (strlen(value) >= 3 && strcmp(value + strlen(value) - 3, "/..") == 0))
		return conf_refuse(why, xstrdup("allowed: an absolute path without \"..\""));
	for (len = strlen(out); len > 1 && out[len - 1] == '/'; len--)
		out[len - 1] = '\0';
	if (strcmp(out, "/") == 0)
		return conf_refuse(why, xstrdup("allowed: a directory below /"));
	return 0;
}

static int conf_parse_ports(const char *value, struct conf *c, char **why)
{
	uint64_t min, max;
	const char *p;

	if (conf_parse_digits(value, &min, &p) < 0 || *p != '-' || conf_parse_digits(p + 1, &max, &p) < 0 || *p ||
	    !((min == 0 && max == 0) || (min >= 1024 && min <= max && max <= 65535)))
		return conf_refuse(why, xstrdup("allowed: MIN-MAX within 1024 to 65535, or 0-0 for any free port"));
	c->port_min = (unsigned)min;
	c->port_max = (unsigned)max;
	return 0;
}

static int conf_parse_log(const char *value, struct conf *c, char **why)
{
	static const char *const words[] = { "syslog", "stderr", NULL };
	int i = conf_one_of(value, words);

	if (i >= 0) {
		c->log = i == 0 ? CONF_LOG_SYSLOG : CONF_LOG_STDERR;
		return 0;
	}
	if (*value != '/' || strlen(value) >= sizeof(c->log_path))
		return conf_refuse(why, xstrdup("allowed: syslog, stderr or the absolute path of a file"));
	c->log = CONF_LOG_FILE;
	strcpy(c->log_path, value);
	return 0;
}

/* Absolute paths, separated by colons; NO = none. */
static int conf_parse_paths(const char *value, char *out, size_t size, char **why)
{
	bool good = strlen(value) < size && *value;

	if (!strcasecmp(value, "NO")) {
		*out = '\0';
		return 0;
	}
	for (const char *p = value; good && p; p = strchr(p, ':'), p = p ? p + 1 : NULL)
		good = *p == '/';
	if (!good)
		return conf_refuse(why, xstrdup("allowed: absolute paths, separated by colons, or NO"));
	strcpy(out, value);
	return 0;
}

static int conf_parse_range(const char *value, char *out, size_t size, char **why)
{
	struct ipv4_range r;

	if (strlen(value) >= size || ipv4_range_parse(value, &r) < 0)
		return conf_refuse(why, xasprintf("allowed: a range of IPv4 addresses A.B.C.D/N, with N from %d to %d and no "
						  "bit set after the first N",
						  IPV4_RANGE_BITS_MIN, IPV4_RANGE_BITS_MAX));
	strcpy(out, value);
	return 0;
}

/* The words of keys with two values, in the order of their enums. */
static const char *const choices[][3] = {
	[TYPE_ENGINE] = { "auto", "criu" },       [TYPE_FAILURE] = { "requeue_fresh", "hold" },
	[TYPE_REQUEUE] = { "resume", "restart" }, [TYPE_NETWORK] = { "host", "private" },
	[TYPE_TCP] = { "refuse", "close" },       [TYPE_TMP] = { "image", "directory" },
};
_Static_assert(sizeof(enum conf_engine) == sizeof(unsigned), "enums of struct conf are set as unsigned");

/* none | first | every:N */
static int conf_parse_prove(const struct conf_key *k, const char *value, unsigned *out, char **why)
{
	static const char every[] = "every:";
	uint64_t number = 0;
	const char *rest;

	if (strcasecmp(value, "none") == 0)
		*out = 0;
	else if (strcasecmp(value, "first") == 0)
		*out = CONF_PROVE_FIRST;
	else if (strncasecmp(value, every, strlen(every)) == 0 &&
		 conf_parse_digits(value + strlen(every), &number, &rest) == 0 && !*rest && number >= k->min &&
		 number <= k->max)
		*out = (unsigned)number;
	else
		return conf_refuse(why,
				   xasprintf("allowed: none, first, or every:N with N from %u to %u", k->min, k->max));
	return 0;
}

static int conf_parse_choice(const struct conf_key *k, const char *value, unsigned *out, char **why)
{
	const char *const *words = choices[k->type];
	const int i = conf_one_of(value, words);

	if (i < 0)
		return conf_refuse(why, xasprintf("allowed: %s or %s", words[0], words[1]));
	*out = (unsigned)i;
	return 0;
}

int conf_value_parse(const struct conf_key *k, const char *value, struct conf *c, char **why)
{
	static const char *const plugins[] = { "checkpoint/none", "checkpoint/criu", NULL };
	void *field = (char *)c + k->offset;
	int i;

	switch (k->type) {
	case TYPE_BOOL: return conf_parse_bool(value, field, why);
	case TYPE_UINT: return conf_parse_uint(k, value, field, why);
	case TYPE_LEVEL: return conf_parse_level(k, value, field, why);
	case TYPE_RATIO: return conf_parse_ratio(value, field, why);
	case TYPE_TIME: return conf_parse_time(value, field, why);
	case TYPE_BYTES: return conf_parse_bytes(value, field, why);
	case TYPE_DIR: return conf_parse_dir(value, field, k->size, why);
	case TYPE_PATH: return conf_parse_path(value, field, k->size, why);
	case TYPE_PATHS: return conf_parse_paths(value, field, k->size, why);
	case TYPE_PORTS: return conf_parse_ports(value, c, why);
	case TYPE_LOG: return conf_parse_log(value, c, why);
	case TYPE_PLUGIN:
		i = conf_one_of(value, plugins);
		c->criu_enabled = i == 1;
		return i >= 0 ? 0 : conf_refuse(why, xstrdup("allowed: checkpoint/criu or checkpoint/none"));
	case TYPE_ENGINE:
	case TYPE_FAILURE:
	case TYPE_REQUEUE:
	case TYPE_NETWORK:
	case TYPE_TCP:
	case TYPE_TMP: return conf_parse_choice(k, value, field, why);
	case TYPE_PROVE: return conf_parse_prove(k, value, field, why);
	case TYPE_RANGE: return conf_parse_range(value, field, k->size, why);
	}
	return -1;
}

static char *conf_format_prove(unsigned every)
{
	return every == 0                  ? xstrdup("none")
	       : every == CONF_PROVE_FIRST ? xstrdup("first")
					   : xasprintf("every:%u", every);
}

static char *conf_format_bytes(uint64_t bytes)
{
	static const char suffixes[] = "\0KMGT";
	int i = 0;

	while (bytes && bytes % 1024 == 0 && i < 4) {
		bytes /= 1024;
		i++;
	}
	return xasprintf("%llu%.1s", (unsigned long long)bytes, &suffixes[i]);
}

static char *conf_format_path(const char *path)
{
	return xasprintf(path[strcspn(path, " \t#")] ? "\"%s\"" : "%s", path);
}

char *conf_value_format(const struct conf_key *k, const struct conf *c)
{
	const void *field = (const char *)c + k->offset;
	char time[24];

	switch (k->type) {
	case TYPE_PLUGIN: return xstrdup(c->criu_enabled ? "checkpoint/criu" : "checkpoint/none");
	case TYPE_BOOL: return xstrdup(*(const bool *)field ? "YES" : "NO");
	case TYPE_UINT: return xasprintf("%u", *(const unsigned *)field);
	case TYPE_LEVEL: return *(const int *)field < 0 ? xstrdup("auto") : xasprintf("%d", *(const int *)field);
	case TYPE_RATIO: return xasprintf("%.12g", *(const double *)field);
	case TYPE_TIME: return xstrdup(interval_format(*(const int64_t *)field, time, sizeof(time)));
	case TYPE_BYTES: return conf_format_bytes(*(const uint64_t *)field);
	case TYPE_DIR:
	case TYPE_PATH: return conf_format_path(field);
	case TYPE_PATHS: return *(const char *)field ? conf_format_path(field) : xstrdup("NO");
	case TYPE_PORTS: return xasprintf("%u-%u", c->port_min, c->port_max);
	case TYPE_ENGINE:
	case TYPE_FAILURE:
	case TYPE_REQUEUE:
	case TYPE_NETWORK:
	case TYPE_TCP:
	case TYPE_TMP: return xstrdup(choices[k->type][*(const unsigned *)field]);
	case TYPE_RANGE: return xstrdup(field);
	case TYPE_PROVE: return conf_format_prove(*(const unsigned *)field);
	case TYPE_LOG:
		return c->log == CONF_LOG_FILE ? conf_format_path(c->log_path)
					       : xstrdup(c->log == CONF_LOG_STDERR ? "stderr" : "syslog");
	}
	return xstrdup("");
}
