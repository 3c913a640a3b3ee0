#include "launch/bcast.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "launch/program.h"
#include "launch/say.h"

/* An absolute path, a directory that ends with "/", or by default the working directory. Slurm ignores relative paths.
 */
static char *bcast_destination(const char *to, const struct job *job, int step)
{
	char cwd[PATH_MAX];

	if (*to == '/' && to[strlen(to) - 1] != '/')
		return xstrdup(to);
	if (*to != '/')
		to = strcat(getcwd(cwd, sizeof(cwd) - 1) ? cwd : strcpy(cwd, "."), "/");
	return xasprintf("%sslurm_bcast_%s.%d_%s", to, job->id, step, job->node);
}

/* 0, or -1 with errno. */
static int bcast_write(int from, const char *to, const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	cleanup_close int fd = -1;
	ssize_t n;

	if (unlink(to) && errno != ENOENT)
		return -1;
	fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (fd < 0)
		return -1;
	do
		n = sendfile(fd, from, NULL, 1 << 30);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 || fchmod(fd, st->st_mode & 0777) || futimens(fd, times) ? -1 : 0;
}

char *bcast_copy(const char *program, const char *to, const struct job *job, int step)
{
	cleanup_free char *file = program_find(program, getenv("PATH"));
	cleanup_close int from = open(file, O_RDONLY | O_CLOEXEC);
	char *dest = bcast_destination(to, job, step);
	struct stat st;

	if (from < 0 || fstat(from, &st))
		say_error("Can't open `%s`: %s", file, strerror(errno));
	else if (bcast_write(from, dest, &st))
		say_error("REQUEST_FILE_BCAST(%s): %s", job->node, strerror(errno));
	else
		return dest;
	free(dest);
	say_fatal("Failed to broadcast '%s'. Step launch aborted.", file);
}
