#ifndef FSCHED_SLURM_JSON_TEXT_H
#define FSCHED_SLURM_JSON_TEXT_H

#include <jansson.h>
#include "common/util.h"

/* JSON is UTF-8; comments and file names need not be. For texts that are shown, not opened. */
static inline json_t *json_text(const char *value)
{
	json_t *j = json_string(value);
	cleanup_free char *ascii = NULL;
	char *p;

	if (j)
		return j;
	ascii = xstrdup(value);
	for (p = ascii; *p; p++)
		if (*p & 0x80)
			*p = '?';
	return json_string(ascii);
}

#endif
