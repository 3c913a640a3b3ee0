#include "worker/worker.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"

void worker_warn(struct worker *w, const char *fmt, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_warn(w->warnings, text);
}
