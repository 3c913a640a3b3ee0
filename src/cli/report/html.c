#include "cli/report/html.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/report/style.h"

#define DASH "&#8211;"

void html_text(FILE *out, const char *text)
{
	const size_t size = strlen(text) + 1;
	cleanup_free char *clean = xmalloc(size);

	for (const char *p = printable(text, clean, size); *p; p++) {
		switch (*p) {
		case '&': fputs("&amp;", out); break;
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '"': fputs("&quot;", out); break;
		case '\'': fputs("&#39;", out); break;
		default: fputc(*p, out);
		}
	}
}

static void html_open(FILE *out, const char *tag, const char *class)
{
	fprintf(out, class ? "<%s class=\"%s\">" : "<%s>", tag, class ? class : "");
}

void html_element(FILE *out, const char *tag, const char *class, const char *text)
{
	html_open(out, tag, class);
	html_text(out, text);
	fprintf(out, "</%s>", tag);
}

void html_size(FILE *out, const char *tag, uint64_t bytes)
{
	char text[16];

	html_open(out, tag, "n");
	fputs(bytes ? format_size(bytes, text, sizeof(text)) : DASH, out);
	fprintf(out, "</%s>", tag);
}

void html_duration(FILE *out, const char *tag, int64_t us)
{
	char text[24];

	html_open(out, tag, "n");
	fputs(us > 0 ? format_duration(us, text, sizeof(text)) : DASH, out);
	fprintf(out, "</%s>", tag);
}

void html_time(FILE *out, const char *tag, int64_t t)
{
	const time_t at = (time_t)t;
	char text[32] = DASH;
	struct tm tm;

	if (t && (!localtime_r(&at, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm)))
		snprintf(text, sizeof(text), DASH);
	html_open(out, tag, "t");
	fprintf(out, "%s</%s>", text, tag);
}

char *html_span(int64_t s, char buf[32])
{
	const long long n = s;

	if (n < 120)
		snprintf(buf, 32, "%lld s", n);
	else if (n < 7200)
		snprintf(buf, 32, "%lld min", n / 60);
	else if (n < 2 * 86400)
		snprintf(buf, 32, "%lld h %lld min", n / 3600, n / 60 % 60);
	else
		snprintf(buf, 32, "%lld days %lld h", n / 86400, n / 3600 % 24);
	return buf;
}

void html_tile(FILE *out, const char *class, const char *value, const char *what)
{
	fputs("<div class=\"tile\">", out);
	html_element(out, "b", class, value);
	html_element(out, "span", NULL, what);
	fputs("</div>\n", out);
}

void html_begin(FILE *out, const char *title)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
	      out);
	html_text(out, title);
	fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", report_style);
}

void html_end(FILE *out)
{
	fputs("</body>\n</html>\n", out);
}

int html_write_file(const char *path, const char *text, size_t len, struct err *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	cleanup_free char *dir = slash ? xasprintf("%.*s", slash == path ? 1 : (int)(slash - path), path) : xstrdup(".");
	cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!*name)
		return err_set(err, EISDIR, "%s is a directory", path);
	if (fd < 0)
		return err_sys(err, errno, "cannot open directory %s", dir);
	if (write_file_atomic(fd, name, 0600, (gid_t)-1, text, len) < 0)
		return err_sys(err, errno, "cannot write %s", path);
	return 0;
}
