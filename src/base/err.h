/* Errors as values: the last argument of every function that can fail.
 *
 * A function returns 0 (or a non-negative value) on success and -1 on failure;
 * on failure it has filled *err with a sentence for a person: what failed, on
 * which object, why. Callers add context with err_wrap() on the way up.
 * A NULL err is allowed everywhere and discards the text.
 */
#ifndef FSCHED_BASE_ERR_H
#define FSCHED_BASE_ERR_H

struct err {
	int num;        /* errno value, or 0 where none applies */
	char text[768]; /* never empty after a failure; no newline at the end */
};

/* Sets the text; num is not appended to it. Returns -1. */
int err_set(struct err *err, int num, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Sets the text and appends ": strerror(num)". Returns -1. */
int err_sys(struct err *err, int num, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "fmt: " in front of the text that is there. Returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
