/* A directory of its own for a test program that needs real files and root. */
#ifndef FSCHED_TESTS_SCRATCH_H
#define FSCHED_TESTS_SCRATCH_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir_tree.h"
#include "base/io.h"

static char scratch[64]; /* absolute path */
static int scratch_fd = -1;

/* 77 tells meson that the program was skipped. */
static inline void scratch_needs_root(void)
{
	if (geteuid() == 0)
		return;
	puts("skipped: needs root");
	exit(77);
}

static inline int scratch_make(mode_t mode)
{
	snprintf(scratch, sizeof(scratch), "%s/fsched-test.XXXXXX", P_tmpdir);
	if (!mkdtemp(scratch) || chmod(scratch, mode) < 0)
		return -1;
	scratch_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return scratch_fd < 0 ? -1 : 0;
}

static inline void scratch_remove(void)
{
	close(scratch_fd);
	remove_tree_at(AT_FDCWD, scratch);
}

/* Formats a path below the scratch directory; a few live at a time. */
static inline const char *at(const char *name)
{
	static char bufs[8][512];
	static unsigned turn;
	char *buf = bufs[turn++ % 8];

	snprintf(buf, sizeof(bufs[0]), "%s/%s", scratch, name);
	return buf;
}

static inline void put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write_all(fd, text, strlen(text)) < 0 || close(fd) < 0) {
		perror(path);
		abort();
	}
}

/* The whole file, NUL-terminated; NULL if it cannot be read. */
static inline char *get_text(const char *path)
{
	char *text = NULL;

	return read_file_at(AT_FDCWD, path, 64u << 20, &text) < 0 ? NULL : text;
}

#endif
