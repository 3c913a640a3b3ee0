#include "cli/plugstack.h"

#include <ctype.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/libexec.h"
#include "base/slurmconf.h"
#include "base/io.h"
#include "base/util.h"

#define FILE_MAX_SIZE (1u << 20)
#define INCLUDE_DEPTH 8

char *plugstack_path(void)
{
	const char *conf = slurmconf_path();
	const char *slash = conf ? strrchr(conf, '/') : NULL;
	char *path = slurmconf_value(conf, "PlugStackConfig");

	if (path || !slash)
		return path;
	return xasprintf("%.*s/plugstack.conf", (int)(slash - conf), conf);
}

static int plugstack_search(const char *path, struct plugstack_line *l, int depth);

static int plugstack_include(const char *path, const char *pattern, struct plugstack_line *l, int depth)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *full = NULL;
	glob_t g;
	int found = 0;

	if (*pattern == '/' || !slash)
		full = xstrdup(pattern);
	else
		full = xasprintf("%.*s/%s", (int)(slash - path), path, pattern);
	if (glob(full, 0, NULL, &g) != 0)
		return 0;
	for (size_t i = 0; i < g.gl_pathc && !found; i++)
		found = plugstack_search(g.gl_pathv[i], l, depth + 1);
	globfree(&g);
	return found;
}

static int is_fsched(const char *plugin)
{
	const char *slash = strrchr(plugin, '/');

	return strcmp(slash ? slash + 1 : plugin, "spank_fsched.so") == 0;
}

static int plugstack_scan_line(const char *path, char *line, struct plugstack_line *l, int depth)
{
	const char *blank = " \t\r";
	char *save = NULL;
	char *word, *plugin, *rest;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, blank, &save);
	plugin = word ? strtok_r(NULL, blank, &save) : NULL;
	if (!plugin)
		return 0;
	if (strcmp(word, "include") == 0)
		return depth < INCLUDE_DEPTH ? plugstack_include(path, plugin, l, depth) : 0;
	if (!is_fsched(plugin))
		return 0;
	rest = save ? save + strspn(save, blank) : NULL;
	l->file = xstrdup(path);
	l->plugin = xstrdup(plugin);
	l->args = xstrdup(rest ? rest : "");
	l->optional = strcmp(word, "optional") == 0;
	return 1;
}

static int plugstack_search(const char *path, struct plugstack_line *l, int depth)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_free char *text = NULL;
	int found = 0;
	char *line, *next;

	if (fd < 0 || read_all(fd, FILE_MAX_SIZE, &text) < 0)
		return 0;
	for (line = text; line && !found; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		found = plugstack_scan_line(path, line, l, depth);
	}
	return found;
}

int plugstack_find(struct plugstack_line *l)
{
	cleanup_free char *path = plugstack_path();

	memset(l, 0, sizeof(*l));
	return path ? plugstack_search(path, l, 0) : 0;
}

void plugstack_free(struct plugstack_line *l)
{
	free(l->file);
	free(l->plugin);
	free(l->args);
}

char *plugstack_arg(const struct plugstack_line *l, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = l->args ? l->args : ""; *p;) {
		size_t n;

		p += strspn(p, " \t\r");
		n = strcspn(p, " \t\r");
		if (n > len && strncmp(p, name, len) == 0 && p[len] == '=')
			return strndup(p + len + 1, n - len - 1);
		p += n;
	}
	return NULL;
}

char *plugstack_libexec(void)
{
	struct plugstack_line l;
	char *path = NULL;

	if (plugstack_find(&l))
		path = plugstack_arg(&l, "libexec");
	plugstack_free(&l);
	return path ? path : xstrdup(libexec_dir());
}
