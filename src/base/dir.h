/* Reading a directory. readdir() returns NULL at the end and after an error alike, and a caller that does not look at
 * errno takes half of a directory for all of it. All directories are read by this. */
#ifndef FSCHED_BASE_DIR_H
#define FSCHED_BASE_DIR_H

#include <dirent.h>

/* Opens the directory name below dirfd, no symbolic link; "." opens dirfd itself with a position of its own. NULL with
 * errno. */
DIR *dir_open_at(int dirfd, const char *name);

/* The next entry that is not "." or "..": 1 and *e, which lives until the next call; 0 at the end; -1 with errno. A
 * directory that was removed meanwhile, or whose process in /proc is gone, is at its end. */
int dir_next(DIR *d, const struct dirent **e);

#endif
