/* checkpoint.log: one line for each event of a job. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "store/store_internal.h"

static int event_log_open(const struct store *s)
{
	/* read as well, for the copy */
	cleanup_close int fd = openat(s->dirfd, "checkpoint.log",
				      O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	return steal_fd(&fd);
}

void store_log(const struct store *s, uid_t owner, const char *fmt, ...)
{
	cleanup_close int fd = event_log_open(s);
	cleanup_free char *text = NULL, *line = NULL;
	char clean[4096], when[32];
	struct utsname uts;
	va_list ap;
	int n;

	if (fd < 0)
		return;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return;
	}
	uname(&uts);
	line = xasprintf("%s %s %s\n", format_time(time(NULL), when, sizeof(when)), uts.nodename,
			 printable(text, clean, sizeof(clean)));
	/* One write, so that lines of two nodes do not mix. A full disk is no reason to fail the job. */
	if (write(fd, line, strlen(line)) > 0)
		owner_copy_log(s, owner, fd);
}
