#include "cli/report/since.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"

static int since_unit(const char *text, int64_t *seconds)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = { { "second", 1 }, { "minute", 60 }, { "hour", 3600 }, { "day", 86400 }, { "week", 7 * 86400 } };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		const size_t n = strlen(units[i].name);

		if (!strncmp(text, units[i].name, n) && (!text[n] || !strcmp(text + n, "s"))) {
			*seconds = units[i].seconds;
			return 0;
		}
	}
	return -1;
}

static int since_relative(const char *text, int64_t now, int64_t *t)
{
	int64_t unit;
	char *end;
	long n;

	if (!isdigit((unsigned char)*text))
		return -1;
	n = strtol(text, &end, 10);
	if (n > 1000000 || since_unit(end, &unit) < 0)
		return -1;
	*t = now - n * unit;
	return 0;
}

static int since_today(int64_t now, int64_t *t)
{
	const time_t at = (time_t)now;
	struct tm tm;

	if (!localtime_r(&at, &tm))
		return -1;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm.tm_isdst = -1;
	*t = (int64_t)mktime(&tm);
	return 0;
}

int since_parse(const char *text, int64_t now, int64_t *t)
{
	static const char *const forms[] = { "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S" };

	if (strcmp(text, "today") == 0)
		return since_today(now, t);
	if (strncmp(text, "now-", 4) == 0)
		return since_relative(text + 4, now, t);
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct tm tm = { .tm_isdst = -1 };
		const char *end = strptime(text, forms[i], &tm);

		if (end && !*end) {
			*t = (int64_t)mktime(&tm);
			return *t < 0 ? -1 : 0;
		}
	}
	return -1;
}
