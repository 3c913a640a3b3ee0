#include "base/status.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/interval.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"

#define ENTRY "Checkpoint={"

/* ---- states ------------------------------------------------------------ */

/* clang-format off */
static const char *const state_words[] = {
	[STATUS_ENABLED]   = "enabled",
	[STATUS_RUNNING]   = "running",
	[STATUS_VACATED]   = "vacated",
	[STATUS_PREEMPTED] = "preempted",
	[STATUS_REQUEUED] = "requeued",
	[STATUS_RESTORING] = "restoring",
	[STATUS_ENDED]     = "ended",
	[STATUS_HELD]      = "held",
};
/* clang-format on */

const char *status_state_text(const struct status *s)
{
	return s->state == STATUS_UNKNOWN ? s->unknown_state : state_words[s->state];
}

int status_set_state(struct status *s, const char *word)
{
	if (strlen(word) >= sizeof(s->unknown_state))
		return -1;
	for (size_t i = STATUS_UNKNOWN + 1; i < ARRAY_SIZE(state_words); i++) {
		if (strcmp(word, state_words[i]) == 0) {
			s->state = (enum status_state)i;
			return 0;
		}
	}
	s->state = STATUS_UNKNOWN;
	strcpy(s->unknown_state, word);
	return 0;
}

/* ---- rendering --------------------------------------------------------- */

/* Adds a member, and replaces the characters that a value must not have: control characters, quotes, braces and
 * backslashes; blanks unless the value is quoted. */
static void status_add_text(FILE *out, const char *key, const char *value, bool quoted)
{
	char buf[512];

	if (!*value)
		return;
	printable(value, buf, sizeof(buf));
	for (char *p = buf; *p; p++) {
		if (*p == '"' || *p == '\\')
			*p = '\'';
		else if (*p == '{')
			*p = '(';
		else if (*p == '}')
			*p = ')';
		else if (*p == ' ' && !quoted)
			*p = '_';
	}
	fprintf(out, quoted ? " %s=\"%s\"" : " %s=%s", key, buf);
}

/* "31 ms" as "31ms": a value holds no blank. */
static const char *without_blanks(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		if (*from != ' ')
			*to++ = *from;
	}
	*to = '\0';
	return text;
}

static void status_add_epoch(FILE *out, const struct status *s)
{
	char buf[32];

	fprintf(out, " epoch=%u", s->epoch);
	if (s->epoch == 0)
		return;
	fprintf(out, " time=%s", format_time(s->epoch_time, buf, sizeof(buf)));
	format_size(s->bytes, buf, sizeof(buf));
	fprintf(out, " size=%s", without_blanks(buf));
	/* 0 if vacate of an older fsched has made the epoch. */
	if (s->frozen_us > 0) {
		format_duration(s->frozen_us, buf, sizeof(buf));
		fprintf(out, " frozen=%s", without_blanks(buf));
	}
	if (s->total_us > 0) {
		format_duration(s->total_us, buf, sizeof(buf));
		fprintf(out, " total=%s", without_blanks(buf));
	}
}

char *status_render(const struct status *s)
{
	const char *state = status_state_text(s);
	char interval[24], when[32], *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	fputs(ENTRY, out);
	status_add_text(out, "state", *state ? state : "unknown", false);
	fprintf(out, " interval=%s", interval_format(s->interval, interval, sizeof(interval)));
	if (s->interval == INTERVAL_AUTO && s->every > 0)
		fprintf(out, " every=%s", interval_format(s->every, interval, sizeof(interval)));
	status_add_epoch(out, s);
	if (s->epoch)
		status_add_text(out, "memory", s->memory, false);
	status_add_text(out, "kept", s->kept, false);
	fprintf(out, " skipped=%u", s->skipped);
	if (s->used > 0)
		fprintf(out, " used=%s", interval_format(s->used, when, sizeof(when)));
	if (s->failed)
		fprintf(out, " failed=%u since=%s", s->failed, format_time(s->failed_since, when, sizeof(when)));
	if (s->restored)
		fprintf(out, " restored=%u", s->restored);
	if (s->steps)
		fprintf(out, " steps=%u", s->steps);
	status_add_text(out, "tried", s->tried, false);
	status_add_text(out, "error", s->error, true);
	status_add_text(out, "uuid", s->uuid, false);
	status_add_text(out, "agent", s->agent, false);
	fputc('}', out);
	if (fclose(out) != 0)
		abort();
	/* Each member begins with a blank, the first one too. */
	memmove(text + strlen(ENTRY), text + strlen(ENTRY) + 1, len - strlen(ENTRY));
	return text;
}

/* ---- finding ----------------------------------------------------------- */

/* Returns the entry in text, NULL if there is none. *end is after its closing brace. If the brace is missing, *whole is
 * false, and *end is the end of the text. */
static const char *status_find_entry(const char *text, const char **end, bool *whole)
{
	const char *start = text;
	bool quoted = false;

	for (;; start++) {
		start = strstr(start, ENTRY);
		if (!start)
			return NULL;
		if (start == text || start[-1] == ' ')
			break;
	}
	for (const char *p = start + strlen(ENTRY); *p; p++) {
		if (*p == '"')
			quoted = !quoted;
		if (*p == '}' && !quoted) {
			*end = p + 1;
			*whole = true;
			return start;
		}
	}
	*end = start + strlen(start);
	*whole = false;
	return start;
}

char *status_replace(const char *admin_comment, const struct status *s)
{
	const char *text = admin_comment ? admin_comment : "", *end, *start;
	cleanup_free char *entry = status_render(s);
	bool whole;

	start = status_find_entry(text, &end, &whole);
	if (start)
		return xasprintf("%.*s%s%s", (int)(start - text), text, entry, end);
	return xasprintf("%s%s%s", text, *text ? " " : "", entry);
}

/* ---- parsing ----------------------------------------------------------- */

static int status_parse_unsigned(const char *text, unsigned *out)
{
	uint64_t value = 0;

	if (!*text)
		return -1;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return -1;
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > UINT32_MAX)
			return -1;
	}
	*out = (unsigned)value;
	return 0;
}

/* Parses "12.3" in tenths, independently of the locale; *rest is the unit. */
static int status_parse_tenths(const char *text, uint64_t *tenths, const char **rest)
{
	const char *p = text;
	uint64_t value = 0;

	if (*p < '0' || *p > '9')
		return -1;
	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > 1000000000)
			return -1;
	}
	value *= 10;
	if (*p == '.' && p[1] >= '0' && p[1] <= '9') {
		value += (uint64_t)(p[1] - '0');
		p += 2;
	}
	*tenths = value;
	*rest = p;
	return 0;
}

static int status_parse_size(const char *text, uint64_t *bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	uint64_t tenths;
	const char *unit;

	if (status_parse_tenths(text, &tenths, &unit) < 0 || tenths > 10240)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(unit, units[i]) == 0) {
			long double value = (long double)tenths / 10 * (long double)(1ULL << (10 * i));

			if (value > (long double)INT64_MAX)
				return -1;
			*bytes = (uint64_t)(value + 0.5L);
			return 0;
		}
	}
	return -1;
}

/* One or two numbers with their units: "31ms", "1min5s", "2h5min". */
static int status_parse_duration(const char *text, int64_t *us)
{
	static const struct {
		const char *name;
		int64_t us;
	} units[] = {
		{ "us", 1 }, { "ms", 1000 }, { "min", 60000000 }, { "s", 1000000 }, { "h", 3600000000 },
	};
	const char *p = text;

	*us = 0;
	do {
		uint64_t tenths;
		size_t i;

		if (status_parse_tenths(p, &tenths, &p) < 0)
			return -1;
		for (i = 0; i < ARRAY_SIZE(units); i++) {
			size_t n = strlen(units[i].name);

			if (strncmp(p, units[i].name, n) == 0) {
				p += n;
				break;
			}
		}
		if (i == ARRAY_SIZE(units) || tenths > (uint64_t)(INT64_MAX / 4 / units[i].us))
			return -1;
		*us += (int64_t)tenths * units[i].us / 10;
		if (*us > INT64_MAX / 4)
			return -1;
	} while (*p);
	return 0;
}

static int status_parse_time(const char *text, int64_t *unix_time)
{
	struct tm tm = { .tm_isdst = -1 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end || *end)
		return -1;
	tm.tm_isdst = -1;
	*unix_time = (int64_t)mktime(&tm);
	return 0;
}

static int status_copy_text(char *to, size_t size, const char *value)
{
	if (strlen(value) >= size)
		return -1;
	strcpy(to, value);
	return 0;
}

/* Unknown members are skipped, because a later version may add some. */
static int status_set_member(struct status *s, const char *key, const char *value)
{
	if (strcmp(key, "state") == 0)
		return status_set_state(s, value);
	if (strcmp(key, "interval") == 0)
		return interval_parse_option(value, &s->interval, NULL);
	if (strcmp(key, "every") == 0)
		return interval_parse(value, &s->every, NULL);
	if (strcmp(key, "epoch") == 0)
		return status_parse_unsigned(value, &s->epoch);
	if (strcmp(key, "time") == 0)
		return status_parse_time(value, &s->epoch_time);
	if (strcmp(key, "size") == 0)
		return status_parse_size(value, &s->bytes);
	if (strcmp(key, "frozen") == 0)
		return status_parse_duration(value, &s->frozen_us);
	if (strcmp(key, "total") == 0)
		return status_parse_duration(value, &s->total_us);
	if (strcmp(key, "memory") == 0)
		return status_copy_text(s->memory, sizeof(s->memory), value);
	if (strcmp(key, "kept") == 0)
		return status_copy_text(s->kept, sizeof(s->kept), value);
	if (strcmp(key, "skipped") == 0)
		return status_parse_unsigned(value, &s->skipped);
	if (strcmp(key, "used") == 0)
		return interval_parse(value, &s->used, NULL);
	if (strcmp(key, "failed") == 0)
		return status_parse_unsigned(value, &s->failed);
	if (strcmp(key, "since") == 0)
		return status_parse_time(value, &s->failed_since);
	if (strcmp(key, "restored") == 0)
		return status_parse_unsigned(value, &s->restored);
	if (strcmp(key, "steps") == 0)
		return status_parse_unsigned(value, &s->steps);
	if (strcmp(key, "tried") == 0)
		return status_copy_text(s->tried, sizeof(s->tried), value);
	if (strcmp(key, "error") == 0)
		return status_copy_text(s->error, sizeof(s->error), value);
	if (strcmp(key, "uuid") == 0)
		return status_copy_text(s->uuid, sizeof(s->uuid), value);
	if (strcmp(key, "agent") == 0)
		return status_copy_text(s->agent, sizeof(s->agent), value);
	return 0;
}

/* Takes the next key=value or key="value" off the text. Returns 1 = found, 0 = end, -1 = malformed. */
static int status_next_member(char **text, char **key, char **value)
{
	char *p = *text + strspn(*text, " ");
	char *end;

	if (!*p)
		return 0;
	*key = p;
	p += strcspn(p, "= \"");
	if (*p != '=' || p == *key)
		return -1;
	*p++ = '\0';
	if (*p == '"') {
		*value = ++p;
		end = strchr(p, '"');
		if (!end || (end[1] != ' ' && end[1] != '\0'))
			return -1;
	} else {
		*value = p;
		end = p + strcspn(p, " \"");
		if (*end == '"')
			return -1;
	}
	*text = *end ? end + 1 : end;
	*end = '\0';
	return 1;
}

int status_parse(const char *admin_comment, struct status *s, struct err *err)
{
	const char *start, *end;
	cleanup_free char *copy = NULL;
	char *rest, *key, *value, shown[64];
	bool whole;
	int r;

	memset(s, 0, sizeof(*s));
	start = admin_comment ? status_find_entry(admin_comment, &end, &whole) : NULL;
	if (!start)
		return err_set(err, ENOENT, "no Checkpoint entry");
	if (!whole)
		return err_set(err, EBADMSG, "malformed Checkpoint entry: its closing brace is missing");
	start += strlen(ENTRY);
	copy = xasprintf("%.*s", (int)(end - 1 - start), start);
	rest = copy;
	while ((r = status_next_member(&rest, &key, &value)) > 0) {
		if (status_set_member(s, key, value) < 0)
			return err_set(err, EBADMSG, "malformed Checkpoint entry: %s=%s", key,
				       printable(value, shown, sizeof(shown)));
	}
	if (r < 0)
		return err_set(err, EBADMSG, "malformed Checkpoint entry near \"%s\"",
			       printable(rest, shown, sizeof(shown)));
	return 0;
}
