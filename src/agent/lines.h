/* Splits a stream into lines. The stream comes in pieces of any length. */
#ifndef FSCHED_AGENT_LINES_H
#define FSCHED_AGENT_LINES_H

#include <stdbool.h>
#include <stddef.h>

#define LINES_MAX 65536 /* bytes of a line, with its newline */

struct lines {
	char *buf;  /* LINES_MAX bytes, owned by the caller */
	size_t len; /* bytes in buf of the line that has not ended yet */
};

enum lines_result {
	LINES_MORE,     /* there is room in buf for the next piece */
	LINES_STOPPED,  /* on_line has returned false */
	LINES_TOO_LONG, /* the line does not fit in buf; its beginning was dropped */
};

/* The caller has written n bytes to buf + len, at most LINES_MAX - len. Calls on_line for each line that is complete
 * now, without its newline; a line with a NUL ends there. After on_line has returned false, *l is not touched any more,
 * because on_line may have freed or reused it. */
enum lines_result lines_add(struct lines *l, size_t n, bool (*on_line)(void *arg, char *line), void *arg);

#endif
