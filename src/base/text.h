/* Sizes, and texts of unknown origin, as text for people. */
#ifndef FSCHED_BASE_TEXT_H
#define FSCHED_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "12.3 MiB", "512 B"; buf of at least 16 bytes. Returns buf. */
char *format_size(uint64_t bytes, char *buf, size_t len);
/* Copies s to buf, and replaces every byte that is no printable UTF-8 by "?", and characters that change the
 * writing direction. So a hostile file name cannot forge a line of a log, reorder it or control a terminal. A text that
 * is too long is cut. Returns buf. */
char *printable(const char *s, char *buf, size_t len);

/* Replaces the octal escapes of files in /proc, like \040 for a space, in place. Returns text. */
char *unescape_octal(char *text);

/* True if path is dir or lies below it, by the text alone. Both are absolute, without a slash at the end. */
bool path_is_within(const char *path, const char *dir);

#endif
