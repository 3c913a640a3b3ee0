/* The dummy parent of criu's images: a parent image which says that every page of every process has been saved before
 * (preload/elide.c says why). */
#ifndef FSCHED_CRIU_DUMMY_PARENT_H
#define FSCHED_CRIU_DUMMY_PARENT_H

#include "base/err.h"

#define DUMMY_PARENT "dummy-parent"

/* Makes the directory DUMMY_PARENT below images_fd, a few hundred bytes. Returns 0 or -1 with err. */
int dummy_parent_make(int images_fd, struct err *err);
/* Removes the directory, and criu's link to it. */
void dummy_parent_remove(int images_fd);

#endif
