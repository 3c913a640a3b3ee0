/* A directory in memory, as a job's, with one file in it: the input. */
#ifndef FSCHED_TESTS_FUZZ_JOBDIR_H
#define FSCHED_TESTS_FUZZ_JOBDIR_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char jobdir_path[] = "/dev/shm/fsched-fuzz.XXXXXX";
static const char *jobdir_file;

static void jobdir_remove(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", jobdir_path, jobdir_file);
	unlink(path);
	rmdir(jobdir_path);
}

/* Its descriptor; the file holds the input. */
static int jobdir_with(const char *name, const uint8_t *data, size_t size)
{
	static int dir = -1, file = -1;

	if (dir < 0) {
		jobdir_file = name;
		if (!mkdtemp(jobdir_path) || atexit(jobdir_remove))
			abort();
		dir = open(jobdir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		file = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
	if (dir < 0 || file < 0 || ftruncate(file, 0) || pwrite(file, data, size, 0) != (ssize_t)size)
		abort();
	return dir;
}

#endif
