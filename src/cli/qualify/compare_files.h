/* Compares the results of two runs byte by byte. Nothing is opened through a symbolic link below the directories that
 * are given: the content of links is compared, not what they lead to.
 *
 * Functions return 0, or -1 with err if something cannot be read. Differences are added to *r. */
#ifndef FSCHED_CLI_QUALIFY_COMPARE_FILES_H
#define FSCHED_CLI_QUALIFY_COMPARE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

#define COMPARE_SHOWN 20

struct compare_result {
	unsigned n;                    /* number of differences */
	char text[COMPARE_SHOWN][320]; /* the first of them, for people, printable */
};

struct compare_rules {
	const char **ignore; /* patterns of fnmatch(3) for paths relative to the directory, or for names alone */
	size_t n;
};

/* Everything below both directories: which names there are, their types, permissions and contents. what: the beginning
 * of names in messages, "" or "dir/". */
int compare_trees(int reference, int run, const char *what, const struct compare_rules *rules, struct compare_result *r,
		  struct err *err);

/* A file or directory that both must have. name is relative, without ".." */
int compare_named(int reference, int run, const char *name, const struct compare_rules *rules, struct compare_result *r,
		  struct err *err);

/* A file with the output of a job. Lines that slurmstepd has written about the job's end do not count, as long as
 * neither file is larger than 64 MiB. */
int compare_output(int reference, int run, const char *name, const struct compare_rules *rules,
		   struct compare_result *r, struct err *err);

/* Whether a rule leaves out this path. */
bool compare_ignores(const struct compare_rules *rules, const char *path);

#endif
