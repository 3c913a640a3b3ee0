/* Numbers and foreign texts as text for people. */
#ifndef FSCHED_BASE_TEXT_H
#define FSCHED_BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* "12.3 MiB", "512 B"; buf of at least 16 bytes. Returns buf. */
char *format_size(uint64_t bytes, char *buf, size_t len);
/* Copies s replacing control characters, so that a hostile file name cannot
 * forge a line of a log or of a terminal. Returns buf. */
char *printable(const char *s, char *buf, size_t len);

#endif
