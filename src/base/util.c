#include "base/util.h"

#include <stdarg.h>
#include <string.h>

static void *alloc_checked(void *p)
{
	static const char text[] = "fsched: out of memory\n";

	if (!p) {
		if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			abort();
		abort();
	}
	return p;
}

void *xmalloc(size_t size)
{
	return alloc_checked(malloc(size ? size : 1));
}

void *xcalloc(size_t n, size_t size)
{
	return alloc_checked(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return alloc_checked(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return alloc_checked(strdup(s));
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	return alloc_checked(len < 0 ? NULL : text);
}
