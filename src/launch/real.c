#include "launch/real.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "launch/say.h"

#define PLACE "/slurm/srun" /* end of the path of the mount: pod/pod_srun.h */

/* The mount at a path that ends so. */
static char *real_find(void)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	char at[4096];
	size_t room = 0, n;

	while (f && getline(&line, &room, f) > 0) {
		if (sscanf(line, "%*d %*d %*s %*s %4095s", at) != 1)
			continue;
		n = strlen(unescape_octal(at));
		if (n > strlen(PLACE) && !strcmp(at + n - strlen(PLACE), PLACE))
			return xstrdup(at);
	}
	return NULL;
}

char *launcher_file(const char *name)
{
	char own[4096];
	cleanup_free char *place = real_find();
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (place) {
		place[strlen(place) - strlen(PLACE)] = '\0';
		return xasprintf("%s/%s", place, name);
	}
	if (n <= 0)
		return NULL;
	own[n] = '\0';
	*strrchr(own, '/') = '\0';
	return xasprintf("%s/%s", own, name);
}

_Noreturn void real_exec(char **argv)
{
	cleanup_free char *path = real_find();

	if (path) {
		execv(path, argv);
		say_fatal("cannot run %s: %s", path, strerror(errno));
	}
	say_fatal("this pod has no srun of Slurm's: the node has none where fsched looks for it (SrunPath in fsched.conf)");
}
