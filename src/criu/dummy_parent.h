/* The dummy parent of criu's images: says that every page of every process has been saved before (why:
 * src/preload/elide.c). */
#ifndef FSCHED_CRIU_DUMMY_PARENT_H
#define FSCHED_CRIU_DUMMY_PARENT_H

#include "base/err.h"

#define DUMMY_PARENT "dummy-parent"

/* Makes the directory DUMMY_PARENT below images_fd, a few hundred bytes. */
int dummy_parent_make(int images_fd, struct err *err);
/* Removes it, and criu's link to it. */
void dummy_parent_remove(int images_fd);

#endif
