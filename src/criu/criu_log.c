/* Explains criu's messages of a failure to people who do not know criu. */
#include "criu/criu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "policy/obstacle.h"

#define LOG_TAIL  (256 * 1024) /* bytes at the end of a log that are read */
#define MAX_LINES 3

/* "(00.012)   12: Error (criu/files.c:1): text" -> text; NULL for other lines.
 * Messages of the code that criu runs in a restored process begin with "pie: 12:". */
static char *criu_log_error_text(char *line)
{
	static const char digits[] = "(0123456789.): \t";
	char *p = strstr(line, "Error ("), *at = line + strspn(line, digits);

	/* Only the time and the pid may come before, because a file name could contain the words, too. */
	if (strncmp(at, "pie: ", 5) == 0)
		at += 5 + strspn(at + 5, digits);
	if (!p || at < p)
		return NULL;
	p = strstr(p, "): ");
	return p ? p + 3 : NULL;
}

/* True for errors that criu logs in every run: without CAP_SYS_RESOURCE, or for shared memory, for which the dummy
 * parent has no image. */
static bool criu_log_is_noise(const char *text)
{
	return strstr(text, "Can't setup RLIMIT_NOFILE") || strstr(text, "No parent image found");
}

/* True for lines that report only a consequence of an earlier error. */
static bool criu_log_is_consequence(const char *text)
{
	static const char *const words[] = {
		"Dumping FAILED",
		"Restoring FAILED",
		"Killed by signal",
		"Failed unpacking request",
		"Can't read request",
		"RPC client reported script error",
		"Warn",
		"exited, status=",
		"killed by signal",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strstr(text, words[i]))
			return true;
	return false;
}

static void criu_log_add_line(char *buf, size_t len, const char *text)
{
	char clean[512];
	size_t used = strlen(buf);

	printable(text, clean, sizeof(clean));
	if (strstr(buf, clean) || used + 3 >= len)
		return;
	snprintf(buf + used, len - used, "%s%s", used ? "; " : "", clean);
}

static void criu_log_collect(char *text, bool consequences, char *buf, size_t len)
{
	char *save = NULL, *line, *e;
	int n = 0;

	for (line = strtok_r(text, "\n", &save); line && n < MAX_LINES; line = strtok_r(NULL, "\n", &save)) {
		e = criu_log_error_text(line);
		if (!e || criu_log_is_noise(e) || criu_log_is_consequence(e) != consequences)
			continue;
		criu_log_add_line(buf, len, e);
		n++;
	}
}

/* Reads the last LOG_TAIL bytes of a regular file below dirfd. The result is the caller's. */
static char *criu_log_read_tail(int dirfd, const char *name)
{
	cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	cleanup_free char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return NULL;
	if (st.st_size > LOG_TAIL)
		lseek(fd, -LOG_TAIL, SEEK_END);
	if (read_all(fd, 2 * LOG_TAIL, &text) < 0)
		return NULL;
	return steal_ptr(&text);
}

/* Puts the Error lines of a log into buf, joined; "" if there are none. */
static void criu_log_errors(int dirfd, const char *name, char *buf, size_t len)
{
	cleanup_free char *text = criu_log_read_tail(dirfd, name);
	cleanup_free char *copy = NULL;

	buf[0] = '\0';
	if (!text)
		return;
	copy = xstrdup(text);
	criu_log_collect(text, false, buf, len);
	if (!buf[0])
		criu_log_collect(copy, true, buf, len);
}

/* Puts the last line of criu's standard error, a memfd, into buf. The dynamic loader prints there before criu has a
 * log. */
static void criu_log_last_line(int fd, char *buf, size_t len)
{
	char text[1024];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	char *p;

	buf[0] = '\0';
	if (n <= 0)
		return;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	p = strrchr(text, '\n');
	printable(p ? p + 1 : text, buf, len);
}

/* "what prevents it: what to do (criu: its message)" */
static void criu_log_compose(const char *said, char *buf, size_t len)
{
	const struct obstacle *o = obstacle_find(said);

	if (o && o->sentence)
		snprintf(buf, len, "%s%s%s (criu: %s)", o->sentence, o->hint ? ": " : "", o->hint ? o->hint : "", said);
	else
		snprintf(buf, len, "criu: %s", said);
}

char *criu_log_explain(int dirfd, const char *name, char *buf, size_t len)
{
	char said[640];

	criu_log_errors(dirfd, name, said, sizeof(said));
	buf[0] = '\0';
	if (said[0])
		criu_log_compose(said, buf, len);
	return buf;
}

int criu_explain(struct err *err, int work_fd, const char *log, const char *errmsg, int stderr_fd)
{
	char text[640], told[1000];

	if (err)
		err->num = 0;
	criu_log_errors(work_fd, log, text, sizeof(text));
	if (!text[0] && errmsg && errmsg[0])
		printable(errmsg, text, sizeof(text));
	if (!text[0])
		criu_log_last_line(stderr_fd, text, sizeof(text));
	if (!text[0])
		return err_set(err, 0, "criu ended without a message (killed, or out of memory?)");
	criu_log_compose(text, told, sizeof(told));
	return err_set(err, 0, "%s", told);
}
