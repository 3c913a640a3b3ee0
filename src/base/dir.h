/* Reads directories. readdir() returns NULL both at the end and after an error, and a caller that does not check errno
 * mistakes a part of a directory for all of it. Therefore all directories are read by these functions. */
#ifndef FSCHED_BASE_DIR_H
#define FSCHED_BASE_DIR_H

#include <dirent.h>

/* Opens the directory name below dirfd; a symbolic link is refused. "." opens dirfd itself with a position of its own.
 * Returns NULL with errno after a failure. */
DIR *dir_open_at(int dirfd, const char *name);

/* Reads the next entry other than "." and "..". Returns 1 and *e, which is valid until the next call; 0 at the end; -1
 * with errno. A directory that was removed meanwhile, or whose process in /proc has ended, is at its end. */
int dir_next(DIR *d, const struct dirent **e);

#endif
