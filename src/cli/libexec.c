#include "cli/libexec.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

const char *libexec_dir(void)
{
	static char dir[PATH_MAX];
	cleanup_free char *worker = NULL, *wanted = NULL;
	char self[PATH_MAX];
	ssize_t n;

	if (*dir)
		return dir;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		*strrchr(self, '/') = '\0';
		wanted = xasprintf("%s/../libexec/fsched", self);
		worker = xasprintf("%s/fsched-worker", wanted);
		if (access(worker, X_OK) == 0 && realpath(wanted, dir))
			return dir;
	}
	snprintf(dir, sizeof(dir), "%s", FSCHED_LIBEXECDIR);
	return dir;
}
