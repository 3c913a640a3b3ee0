#include "launch/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "launch/release.h"

static struct {
	int verbose;
	bool quiet;
	const char *end;
} say_level = { .end = "\n" };

void say_set_level(int verbose, bool quiet)
{
	say_level.verbose = verbose;
	say_level.quiet = quiet;
}

void say_set_raw(bool raw)
{
	say_level.end = raw ? "\r\n" : "\n";
}

__attribute__((format(printf, 2, 0))) static void say_line(const char *prefix, const char *fmt, va_list ap)
{
	char line[2048];
	int n = snprintf(line, sizeof(line) - 1, "%s", prefix), m;

	m = vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, fmt, ap);
	n += m < 0 ? 0 : m;
	if (n > (int)sizeof(line) - 3)
		n = (int)sizeof(line) - 3;
	n += (int)strlen(strcpy(line + n, say_level.end));
	/* If nobody reads the errors there is nobody to tell. */
	if (write_all(STDERR_FILENO, line, (size_t)n))
		return;
}

#define SAY(prefix)                        \
	do {                               \
		va_list ap;                \
		va_start(ap, fmt);         \
		say_line(prefix, fmt, ap); \
		va_end(ap);                \
	} while (0)

void say_error(const char *fmt, ...)
{
	SAY("srun: error: ");
}

void say_warning(const char *fmt, ...)
{
	if (!say_level.quiet)
		SAY(release_since(23, 2) ? "srun: warning: " : "srun: Warning: ");
}

void say_info(const char *fmt, ...)
{
	if (!say_level.quiet)
		SAY("srun: ");
}

void say_verbose(const char *fmt, ...)
{
	if (say_level.verbose > 0)
		SAY("srun: ");
}

/* As a line of a log: from 25.05 on slurmstepd begins it with the time. */
static void say_prefix_time(char *prefix, size_t size)
{
	struct timespec now;
	char when[32];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(prefix, size, "[%s.%03ld] error: ", when, now.tv_nsec / 1000000);
}

void say_step_error(const char *node, const char *fmt, ...)
{
	char prefix[300];

	if (release_since(25, 5))
		say_prefix_time(prefix, sizeof(prefix));
	else
		snprintf(prefix, sizeof(prefix), "slurmstepd-%s: error: ", node);
	SAY(prefix);
}

void say_fatal(const char *fmt, ...)
{
	SAY("srun: fatal: ");
	exit(1);
}
