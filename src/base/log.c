#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "base/io.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"

#define LINE_MAX_BYTES 2048

static struct {
	enum log_target target;
	int fd; /* only for LOG_TO_FILE */
	bool debug;
	char ident[32]; /* openlog() keeps a pointer to it */
	char prefix[64];
} logger = { .target = LOG_TO_STDERR, .fd = -1, .ident = "fsched" };

/* The descriptor is never 0, 1 or 2. Otherwise a program that was started with these closed would pass the log file to
 * its child as standard output. */
static int log_open_file(const char *path)
{
	cleanup_close int fd = -1;

	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	if (fd < 0)
		return -1;
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

void log_open(enum log_target target, const char *ident, const char *path)
{
	snprintf(logger.ident, sizeof(logger.ident), "%s", ident);
	logger.debug = getenv("FSCHED_DEBUG") != NULL;
	if (logger.fd >= 0)
		close(logger.fd);
	logger.fd = -1;
	logger.target = target;
	openlog(logger.ident, LOG_PID, LOG_DAEMON);
	if (target != LOG_TO_FILE)
		return;
	logger.fd = path ? log_open_file(path) : -1;
	if (logger.fd < 0) {
		int saved = errno;

		logger.target = LOG_TO_SYSLOG;
		log_warn("log file %s: %s; logging to syslog instead", path ? path : "(none)",
			 strerror(path ? saved : EINVAL));
	}
}

void log_prefix(const char *prefix)
{
	snprintf(logger.prefix, sizeof(logger.prefix), "%s", prefix ? prefix : "");
}

static const char *log_level_name(int priority)
{
	switch (priority) {
	case LOG_ERR: return "error: ";
	case LOG_WARNING: return "warning: ";
	case LOG_DEBUG: return "debug: ";
	default: return "";
	}
}

static int log_write_line(int fd, bool with_time, int priority, const char *text)
{
	char stamp[24] = "", line[LINE_MAX_BYTES + 256];
	int len;

	if (with_time)
		format_time(time(NULL), stamp, sizeof(stamp));
	len = snprintf(line, sizeof(line), "%s%s%s[%d]: %s%s%s%s\n", stamp, with_time ? " " : "", logger.ident,
		       (int)getpid(), logger.prefix, *logger.prefix ? ": " : "", log_level_name(priority), text);
	/* One write per line, so that the lines of several processes do not mix. */
	return write_all(fd, line, (size_t)len);
}

static void vlog(int priority, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void vlog(int priority, const char *fmt, va_list ap)
{
	char raw[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
	int saved = errno;

	vsnprintf(raw, sizeof(raw), fmt, ap);
	printable(raw, text, sizeof(text));
	if (logger.target == LOG_TO_STDERR)
		log_write_line(STDERR_FILENO, false, priority, text);
	else if (logger.target == LOG_TO_SYSLOG || log_write_line(logger.fd, true, priority, text) < 0)
		syslog(priority, "%s%s%s%s", logger.prefix, *logger.prefix ? ": " : "", log_level_name(priority), text);
	errno = saved;
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(LOG_ERR, fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(LOG_WARNING, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(LOG_INFO, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	if (!logger.debug)
		return;
	va_start(ap, fmt);
	vlog(LOG_DEBUG, fmt, ap);
	va_end(ap);
}
