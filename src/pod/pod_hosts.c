#include "pod/pod_hosts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>

#include "base/io.h"
#include "base/util.h"

#define HOSTS_FILE "/etc/hosts"
#define HOSTS_MAX  (16 << 20)
#define BLANKS     " \t\r"

struct hosts_word {
	const char *p;
	size_t n;
};

/* The next word of a line before a comment; n = 0 at the end. */
static struct hosts_word hosts_next(const char **p)
{
	struct hosts_word w;

	*p += strspn(*p, BLANKS);
	w.p = *p;
	w.n = strcspn(*p, BLANKS "\n#");
	*p += w.n;
	return w;
}

static bool hosts_word_is(struct hosts_word w, const char *name, size_t n)
{
	return n && w.n == n && !strncasecmp(w.p, name, n);
}

static bool hosts_names(const char *line, const char *host)
{
	struct hosts_word w;

	for (hosts_next(&line), w = hosts_next(&line); w.n; w = hosts_next(&line))
		if (hosts_word_is(w, host, strlen(host)) || hosts_word_is(w, host, strcspn(host, ".")))
			return true;
	return false;
}

static bool hosts_is_local(struct hosts_word w)
{
	static const char *const local[] = { "localhost", "ip6-localhost", "ip6-loopback" };

	for (size_t i = 0; i < ARRAY_SIZE(local); i++)
		if (hosts_word_is(w, local[i], strlen(local[i])))
			return true;
	return w.n > 10 && !strncasecmp(w.p, "localhost.", 10);
}

/* Writes a line that names host: its other names stay, and its names of host go to own. */
static void hosts_split(const char *line, FILE *rest, FILE *own)
{
	struct hosts_word address = hosts_next(&line), w;
	bool any = false;

	for (w = hosts_next(&line); w.n; w = hosts_next(&line)) {
		if (!hosts_is_local(w)) {
			fprintf(own, " %.*s", (int)w.n, w.p);
			continue;
		}
		if (!any)
			fprintf(rest, "%.*s", (int)address.n, address.p);
		fprintf(rest, " %.*s", (int)w.n, w.p);
		any = true;
	}
	if (any)
		fputc('\n', rest);
}

char *pod_hosts_change(const char *text, const char *host, const char *address)
{
	char *rest_text = NULL, *own_text = NULL, *all;
	size_t rest_len, own_len;
	FILE *rest = open_memstream(&rest_text, &rest_len), *own = open_memstream(&own_text, &own_len);

	if (!rest || !own)
		abort();
	for (const char *line = text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		end += *end == '\n';
		if (hosts_names(line, host))
			hosts_split(line, rest, own);
		else
			fprintf(rest, "%.*s", (int)(end - line), line);
	}
	fclose(rest);
	fclose(own);
	/* Last its own name, so that a full name that stood before it stays the canonical one. */
	all = xasprintf("%s%s %s\n%s", address, own_text, host, rest_text);
	free(rest_text);
	free(own_text);
	return all;
}

char *pod_hosts_text(const char *host, const char *address, struct err *err)
{
	cleanup_close int fd = open(HOSTS_FILE, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = NULL;

	if (fd < 0 ? errno != ENOENT : read_all(fd, HOSTS_MAX, &text) < 0) {
		err_sys(err, errno, "cannot read " HOSTS_FILE);
		return NULL;
	}
	return pod_hosts_change(text ? text : "", host, address);
}
