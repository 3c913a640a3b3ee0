#include "worker/worker.h"

#include <stdarg.h>
#include <stdio.h>

void worker_warn(struct worker *w, const char *fmt, ...)
{
	char text[768];
	json_t *s;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s = json_string(text);
	if (s)
		json_array_append_new(w->warnings, s);
}
