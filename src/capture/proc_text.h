/* Numbers in the text of files of /proc and of cgroups: lines of a word and a number ("MemAvailable:  1234 kB",
 * "inactive_file 4096"). */
#ifndef FSCHED_CAPTURE_PROC_TEXT_H
#define FSCHED_CAPTURE_PROC_TEXT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The number behind word, which begins a line (with its colon, if it has one). 0 if there is no such line. */
static inline uint64_t proc_text_number(const char *text, const char *word)
{
	const size_t len = strlen(word);
	uint64_t v;

	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		if (!strncmp(p, word, len) && sscanf(p + len, " %" SCNu64, &v) == 1)
			return v;
	return 0;
}

#endif
