#include "pod/mount_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define TABLE_MAX (64u << 20)

struct mount_table {
	struct {
		int id;
		char *at, *type;
		bool users;
	} * v; /* in the order of the table: later mounts come later */
	size_t n, room;
};

/* Lines that cannot be parsed are skipped. */
static void mount_table_add_line(struct mount_table *t, const char *line)
{
	const char *dash = strstr(line, " - ");
	char type[64];
	int at = 0;

	if (!dash || sscanf(dash, " - %63s", type) != 1)
		return;
	sscanf(line, "%*s %*s %*s %*s %n", &at);
	if (at <= 0)
		return;
	array_reserve(t->v, t->n, t->room);
	t->v[t->n].at = unescape_octal(xasprintf("%.*s", (int)strcspn(line + at, " "), line + at));
	t->v[t->n].id = atoi(line);
	t->v[t->n].users = mount_is_users(line);
	t->v[t->n++].type = xstrdup(type);
}

struct mount_table *mount_table_read(pid_t pid, struct err *err)
{
	struct mount_table *t;
	char *text = NULL, *line, *rest;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid ? pid : getpid());
	if (read_file_at(AT_FDCWD, path, TABLE_MAX, &text) < 0) {
		err_sys(err, errno, "cannot read %s", path);
		return NULL;
	}
	t = xcalloc(1, sizeof(*t));
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		mount_table_add_line(t, line);
	free(text);
	return t;
}

void mount_table_free(struct mount_table *t)
{
	for (size_t i = 0; t && i < t->n; i++) {
		free(t->v[i].at);
		free(t->v[i].type);
	}
	free(t ? t->v : NULL);
	free(t);
}

const char *mount_table_find(const struct mount_table *t, const char *path, const char **mounted_at)
{
	const char *type = NULL;

	*mounted_at = NULL;
	for (size_t i = 0; i < t->n; i++)
		if (path_is_within(path, t->v[i].at) && (!type || strlen(t->v[i].at) >= strlen(*mounted_at))) {
			type = t->v[i].type;
			*mounted_at = t->v[i].at;
		}
	return type;
}

enum mount_kind mount_table_kind(const struct mount_table *t, uint64_t id)
{
	for (size_t i = 0; i < t->n; i++)
		if ((uint64_t)t->v[i].id == id)
			return t->v[i].users ? MOUNT_USERS : MOUNT_NODES;
	return MOUNT_UNKNOWN;
}
