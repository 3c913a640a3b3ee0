#include "agent/lines.h"

#include <string.h>

#include "base/util.h"

enum lines_result lines_add(struct lines *l, size_t n, bool (*on_line)(void *arg, char *line), void *arg)
{
	size_t done = 0;
	char *nl;

	l->len += n;
	while ((nl = memchr(l->buf + done, '\n', l->len - done))) {
		const size_t len = (size_t)(nl - l->buf) - done;
		cleanup_free char *line = xmalloc(len + 1);

		memcpy(line, l->buf + done, len);
		line[len] = '\0';
		done += len + 1;
		if (!on_line(arg, line))
			return LINES_STOPPED;
	}
	l->len -= done;
	if (done)
		memmove(l->buf, l->buf + done, l->len);
	if (l->len < LINES_MAX)
		return LINES_MORE;
	l->len = 0;
	return LINES_TOO_LONG;
}
