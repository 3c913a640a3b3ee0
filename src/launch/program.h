/* Where a program is. */
#ifndef FSCHED_LAUNCH_PROGRAM_H
#define FSCHED_LAUNCH_PROGRAM_H

/* The first file of that name in path, the value of PATH. A directory is no program. The name itself if there is none,
 * or if it has a slash. The caller frees. */
char *program_find(const char *name, const char *path);

#endif
