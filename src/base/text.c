#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"

char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(buf, len, "%u B", (unsigned)bytes);
		return buf;
	}
	/* 1023.95 would be printed as 1024.0 */
	while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, len, "%.1f %s", value, units[unit]);
	return buf;
}

/* Line breaks (U+2028, U+2029), and whatever changes the writing direction of the text around it: a message would be
 * shown in another order than it has. U+061c, U+200e, U+200f, U+202a..U+202e, U+2066..U+2069. */
static bool printable_turns_text(const unsigned char *s)
{
	if (s[0] == 0xd8)
		return s[1] == 0x9c;
	if (s[0] != 0xe2)
		return false;
	return (s[1] == 0x80 && (s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xa8 && s[2] <= 0xae))) ||
	       (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);
}

/* Returns the length of the well-formed UTF-8 sequence at s; 0 if it is malformed or a control character. */
static size_t printable_sequence(const unsigned char *s)
{
	size_t n;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* U+0080..U+009f: terminals interpret these as escape sequences. */
	if (s[0] == 0xc2 && s[1] < 0xa0)
		return 0;
	/* Overlong forms, surrogates, beyond U+10ffff. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	if (printable_turns_text(s))
		return 0;
	return n;
}

char *printable(const char *s, char *buf, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t used = 0;

	if (len == 0)
		return buf;
	while (*p) {
		size_t n = printable_sequence(p);

		if (used + (n ? n : 1) >= len)
			break;
		if (n)
			memcpy(buf + used, p, n);
		else
			buf[used] = '?';
		used += n ? n : 1;
		p += n ? n : 1;
	}
	buf[used] = '\0';
	return buf;
}

char *unescape_octal(char *text)
{
	char *out = text;

	for (const char *s = text; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
	return text;
}

bool path_is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strcmp(dir, "/") || (!strncmp(path, dir, n) && (path[n] == '/' || !path[n]));
}
