#include "launch/program.h"

#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

char *program_find(const char *name, const char *path)
{
	struct stat st;

	if (strchr(name, '/') || !path)
		return xstrdup(name);
	while (*path) {
		size_t n = strcspn(path, ":");
		char *file = xasprintf("%.*s%s%s", (int)n, path, n ? "/" : "./", name);

		if (!access(file, X_OK) && !stat(file, &st) && !S_ISDIR(st.st_mode))
			return file;
		free(file);
		path += n + (path[n] == ':');
	}
	return xstrdup(name);
}
