#include "base/interval.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "base/util.h"

#define FORMATS                                                                             \
	"minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, " \
	"days-hours:minutes:seconds, or UNLIMITED for checkpoints on request only"

struct unit {
	const char *name;
	int64_t seconds;
	int64_t limit; /* the first value that is too high in a field other than the first one */
};

static const struct unit day = { "days", 86400, INTERVAL_MAX };
static const struct unit hour = { "hours", 3600, 24 };
static const struct unit minute = { "minutes", 60, 60 };
static const struct unit second = { "seconds", 1, 60 };

struct format {
	const char *separators; /* between the fields, in order */
	const struct unit *units[5];
};

/* clang-format off */
static const struct format formats[] = {
	{ "",    { &minute } },
	{ ":",   { &minute, &second } },
	{ "::",  { &hour, &minute, &second } },
	{ "-",   { &day, &hour } },
	{ "-:",  { &day, &hour, &minute } },
	{ "-::", { &day, &hour, &minute, &second } },
};
/* clang-format on */

/* Finds the format of text. NULL if text has anything but digits and the separators of a format. */
static const struct format *interval_find_format(const char *text)
{
	char separators[4] = "";
	size_t n = 0;

	for (const char *p = text; *p; p++) {
		if (*p >= '0' && *p <= '9')
			continue;
		if (n + 1 >= sizeof(separators))
			return NULL;
		/* Each separator stands between two digits. */
		if (p == text || !isdigit((unsigned char)p[-1]) || !isdigit((unsigned char)p[1]))
			return NULL;
		separators[n++] = *p;
		separators[n] = '\0';
	}
	for (size_t i = 0; *text && i < ARRAY_SIZE(formats); i++) {
		if (strcmp(separators, formats[i].separators) == 0)
			return &formats[i];
	}
	return NULL;
}

/* Adds the fields up. -1 with *why. */
static int interval_add_fields(const struct format *f, const char *text, int64_t *seconds, const char **why)
{
	const char *p = text;

	*seconds = 0;
	for (int i = 0; f->units[i]; i++) {
		int64_t value = 0;

		for (; *p >= '0' && *p <= '9'; p++) {
			value = value * 10 + (*p - '0');
			if (value > INTERVAL_MAX)
				value = INTERVAL_MAX + 1;
		}
		if (*p)
			p++;
		if (i > 0 && value >= f->units[i]->limit) {
			*why = f->units[i] == &hour     ? "hours behind days must be 0 to 23"
			       : f->units[i] == &minute ? "minutes in this place must be 0 to 59"
							: "seconds must be 0 to 59";
			return -1;
		}
		*seconds += value * f->units[i]->seconds;
	}
	if (*seconds > INTERVAL_MAX) {
		*why = "longer than ten years";
		return -1;
	}
	if (*seconds == 0) {
		*why = "zero is no interval";
		return -1;
	}
	return 0;
}

int interval_parse(const char *text, int64_t *seconds, struct err *err)
{
	const struct format *format;
	const char *why = "not a time";
	char shown[64];

	if (strcasecmp(text, "UNLIMITED") == 0 || strcasecmp(text, "INFINITE") == 0) {
		*seconds = INTERVAL_ON_REQUEST;
		return 0;
	}
	format = interval_find_format(text);
	if (format && interval_add_fields(format, text, seconds, &why) == 0)
		return 0;
	return err_set(err, 0, "invalid checkpoint interval \"%s\": %s. Allowed: " FORMATS,
		       printable(text, shown, sizeof(shown)), why);
}

int interval_parse_option(const char *text, int64_t *seconds, struct err *err)
{
	if (strcasecmp(text, "auto") == 0) {
		*seconds = INTERVAL_AUTO;
		return 0;
	}
	if (interval_parse(text, seconds, err) == 0)
		return 0;
	if (err) {
		cleanup_free char *why = xstrdup(err->text);

		err_set(err, 0, "%s; or auto for as often as pays", why);
	}
	return -1;
}

int interval_check_min(int64_t seconds, int64_t min, struct err *err)
{
	char shown[2][24];

	if (seconds <= 0 || seconds >= min)
		return 0;
	return err_set(
		err, 0,
		"the interval %s is shorter than this cluster allows: the shortest is %s (CheckpointMinInterval in fsched.conf)",
		interval_format(seconds, shown[0], sizeof(shown[0])), interval_format(min, shown[1], sizeof(shown[1])));
}

char *interval_format(int64_t seconds, char *buf, size_t len)
{
	long long s = seconds;

	if (s == INTERVAL_AUTO)
		snprintf(buf, len, "auto");
	else if (s <= 0)
		snprintf(buf, len, "UNLIMITED");
	else if (s < 86400)
		snprintf(buf, len, "%02lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(buf, len, "%lld-%02lld:%02lld:%02lld", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
	return buf;
}
