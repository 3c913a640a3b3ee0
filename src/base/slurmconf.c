#include "base/slurmconf.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"

#define FILE_MAX_SIZE (16u << 20)
#define INCLUDE_DEPTH 8

const char *slurmconf_path(void)
{
	static const char *const places[] = { "/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf" };
	const char *env = getenv("SLURM_CONF");

	if (env && *env)
		return env;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (access(places[i], F_OK) == 0)
			return places[i];
	return NULL;
}

struct slurmconf_sink {
	void (*fn)(const char *value, void *arg);
	void *arg;
};

static void slurmconf_search(const char *path, const char *key, int depth, const struct slurmconf_sink *sink);

/* "Include file", relative to the including file. */
static void slurmconf_include(const char *path, const char *name, const char *key, int depth,
			      const struct slurmconf_sink *sink)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *full = NULL;

	if (*name == '/' || !slash)
		full = xstrdup(name);
	else
		full = xasprintf("%.*s/%s", (int)(slash - path), path, name);
	slurmconf_search(full, key, depth + 1, sink);
}

/* Returns the next word of a line without its quotes, and moves *p behind it. NULL: there is no other word. */
static char *slurmconf_next_word(char **p)
{
	char *s = *p, *out, *start;
	int quote = 0;

	while (isspace((unsigned char)*s))
		s++;
	if (*s == '\0')
		return NULL;
	start = out = s;
	for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
		if (*s == '"')
			quote = !quote;
		else
			*out++ = *s;
	}
	*p = *s ? s + 1 : s;
	*out = '\0';
	return start;
}

static void slurmconf_scan_line(const char *path, char *line, const char *key, int depth,
				const struct slurmconf_sink *sink)
{
	size_t key_len = strlen(key);
	char *p = line;
	char *word = slurmconf_next_word(&p);

	if (word && strcasecmp(word, "include") == 0) {
		word = slurmconf_next_word(&p);
		if (word && depth < INCLUDE_DEPTH)
			slurmconf_include(path, word, key, depth, sink);
		return;
	}
	for (; word; word = slurmconf_next_word(&p)) {
		if (strncasecmp(word, key, key_len) != 0 || word[key_len] != '=')
			continue;
		sink->fn(word + key_len + 1, sink->arg);
	}
}

/* Cuts off a comment, which begins at a '#' without a backslash before it. */
static void cut_comment(char *line)
{
	for (char *p = line; *p; p++)
		if (*p == '#' && (p == line || p[-1] != '\\')) {
			*p = '\0';
			return;
		}
}

static void slurmconf_search(const char *path, const char *key, int depth, const struct slurmconf_sink *sink)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_free char *text = NULL;
	char *line, *next;

	if (fd < 0 || read_all(fd, FILE_MAX_SIZE, &text) < 0)
		return;
	for (char *p = text; (p = strstr(p, "\\\n")) != NULL;)
		p[0] = p[1] = ' ';
	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		cut_comment(line);
		slurmconf_scan_line(path, line, key, depth, sink);
	}
}

void slurmconf_each(const char *path, const char *key, void (*fn)(const char *value, void *arg), void *arg)
{
	const struct slurmconf_sink sink = { fn, arg };

	if (path)
		slurmconf_search(path, key, 0, &sink);
}

static void slurmconf_take_last(const char *value, void *arg)
{
	char **found = arg;

	free(*found);
	*found = xstrdup(value);
}

char *slurmconf_value(const char *path, const char *key)
{
	char *found = NULL;

	slurmconf_each(path, key, slurmconf_take_last, &found);
	return found;
}

char *slurmconf_option(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p && *p;) {
		size_t n = strcspn(p, ",");

		if (n > len && strncasecmp(p, name, len) == 0 && p[len] == '=')
			return strndup(p + len + 1, n - len - 1);
		p += n + (p[n] == ',');
	}
	return NULL;
}

int slurmconf_has(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p && *p;) {
		size_t n = strcspn(p, ",");

		if (n == len && strncmp(p, name, n) == 0)
			return 1;
		p += n + (p[n] == ',');
	}
	return 0;
}

char *slurmconf_munge_socket(const char *conf_socket)
{
	cleanup_free char *info = NULL;
	char *socket;

	if (*conf_socket)
		return xstrdup(conf_socket);
	info = slurmconf_value(slurmconf_path(), "AuthInfo");
	socket = slurmconf_option(info, "socket");
	return socket ? socket : xstrdup("");
}
