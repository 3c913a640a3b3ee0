#include "cli/doctor/doctor_report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "base/text.h"

static unsigned counts[3];
static char skipped[512];

void doctor_report(enum finding f, const char *what, const char *fmt, ...)
{
	static const char *const words[] = { "ok", "warning", "failed" };
	char text[1024], shown[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	counts[f]++;
	printf("%-8s %s - %s\n", words[f], what, printable(text, shown, sizeof(shown)));
	fflush(stdout);
}

void doctor_needs_root(const char *what)
{
	size_t len = strlen(skipped);

	snprintf(skipped + len, sizeof(skipped) - len, "%s%s", len ? ", " : "", what);
}

unsigned doctor_summary(bool root)
{
	printf("%u ok, %u warning%s, %u failed\n", counts[FINDING_OK], counts[FINDING_WARNING],
	       counts[FINDING_WARNING] == 1 ? "" : "s", counts[FINDING_FAILED]);
	if (!root)
		printf("not checked, as it needs root: %s\n", skipped);
	return counts[FINDING_FAILED];
}
