#include "cli/doctor/doctor_report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "base/text.h"
#include "cli/json_out.h"

static unsigned counts[3];
static char skipped[512];
static json_t *findings, *not_checked; /* NULL: text */

void doctor_report_begin(bool json)
{
	findings = json ? json_array() : NULL;
	not_checked = json ? json_array() : NULL;
}

void doctor_report(enum finding f, const char *what, const char *fmt, ...)
{
	static const char *const words[] = { "ok", "warning", "failed" };
	char text[1024], shown[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	counts[f]++;
	if (findings) {
		json_array_append_new(findings, json_pack("{s:s, s:o, s:o}", "status", words[f], "what",
							  json_text(what), "finding", json_text(text)));
		return;
	}
	printf("%-8s %s - %s\n", words[f], what, printable(text, shown, sizeof(shown)));
	fflush(stdout);
}

void doctor_needs_root(const char *what)
{
	size_t len = strlen(skipped);

	if (not_checked)
		json_array_append_new(not_checked, json_text(what));
	snprintf(skipped + len, sizeof(skipped) - len, "%s%s", len ? ", " : "", what);
}

static void doctor_print_json(void)
{
	json_t *o = json_out_new("doctor", 1);

	json_object_set_new(o, "findings", findings);
	json_object_set_new(o, "not_checked", not_checked);
	json_object_set_new(o, "ok", json_integer(counts[FINDING_OK]));
	json_object_set_new(o, "warnings", json_integer(counts[FINDING_WARNING]));
	json_object_set_new(o, "failed", json_integer(counts[FINDING_FAILED]));
	json_out_print(o);
	json_decref(o);
}

unsigned doctor_summary(bool root)
{
	if (findings) {
		doctor_print_json();
		return counts[FINDING_FAILED];
	}
	printf("%u ok, %u warning%s, %u failed\n", counts[FINDING_OK], counts[FINDING_WARNING],
	       counts[FINDING_WARNING] == 1 ? "" : "s", counts[FINDING_FAILED]);
	if (!root)
		printf("not checked, as it needs root: %s\n", skipped);
	return counts[FINDING_FAILED];
}
