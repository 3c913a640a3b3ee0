/* One line per event, to syslog or standard error.
 *
 * Every line begins with the prefix of log_prefix(), e.g. "job 12". Control characters in the text are replaced.
 * errno is kept. Thread-safe as far as syslog(3) is. */
#ifndef FSCHED_BASE_LOG_H
#define FSCHED_BASE_LOG_H

#include <stdarg.h>

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

/* ident: the program's name. path: only for LOG_TO_FILE (opened O_APPEND).
 * If the file cannot be opened the log goes to syslog. May be called again. */
void log_open(enum log_target target, const char *ident, const char *path);
/* Text in front of each line, e.g. "job 12"; NULL for none. */
void log_prefix(const char *prefix);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Only with FSCHED_DEBUG set in the environment at log_open() time. */
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
