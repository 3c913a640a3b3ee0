/* What is known of a path by its text alone. */
#include "files/files_internal.h"

#include <string.h>

bool path_is_plain(const char *path)
{
	if (path[0] != '/' || path[1] == '\0')
		return false;
	for (const char *p = path; p; p = strchr(p + 1, '/')) {
		size_t n = strcspn(p + 1, "/");

		if (n == 0 || (n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
			return false;
	}
	return true;
}

bool path_is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

bool path_is_packed(const char *path, const struct packed *packed)
{
	return path_is_below(path, "/dev/shm") || (packed->private_tmp && path_is_below(path, "/tmp")) ||
	       scratch_has(packed->scratch, path);
}
