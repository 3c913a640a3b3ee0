/* The dummy parent of criu's images: says that every page of every process has been saved before (why:
 * src/preload/elide.c). */
#ifndef FSCHED_CRIU_DUMMY_PARENT_H
#define FSCHED_CRIU_DUMMY_PARENT_H

#include "base/err.h"

#define MEMORY_PARENT "dummy-parent"

/* Makes the directory MEMORY_PARENT below images_fd, a few hundred bytes. */
int memory_parent_make(int images_fd, struct err *err);
/* Removes it, and criu's link to it. */
void memory_parent_remove(int images_fd);

#endif
