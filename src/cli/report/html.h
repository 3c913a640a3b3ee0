/* HTML and SVG as text. Every text that is not a literal of ours passes html_text(): names, paths and reasons come from
 * users. */
#ifndef FSCHED_CLI_REPORT_HTML_H
#define FSCHED_CLI_REPORT_HTML_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"

/* Writes text so that it is text in an element and in a quoted attribute alike. What is not printable becomes "?". */
void html_text(FILE *out, const char *text);
/* <tag class="class">text</tag>; class NULL = none. */
void html_element(FILE *out, const char *tag, const char *class, const char *text);
/* The same of a size and a duration; 0 = "–". */
void html_size(FILE *out, const char *tag, uint64_t bytes);
void html_duration(FILE *out, const char *tag, int64_t us);
/* A local time as "2026-11-30 18:00"; 0 = "–". */
void html_time(FILE *out, const char *tag, int64_t t);
/* A length of time for people: "3 days 4 h", "12 min". buf: 32 bytes. Returns buf. */
char *html_span(int64_t seconds, char buf[32]);

/* A tile with a value and, below it, what it is. class of the value: NULL = none. */
void html_tile(FILE *out, const char *class, const char *value, const char *what);

/* From the doctype to the begin of the body, and from its end on. The page needs no network and no script. */
void html_begin(FILE *out, const char *title);
void html_end(FILE *out);

/* Replaces the file, with mode 0600, and follows no link: somebody may have put one into the directory. 0, or -1 with
 * err. */
int html_write_file(const char *path, const char *text, size_t len, struct err *err);

#endif
