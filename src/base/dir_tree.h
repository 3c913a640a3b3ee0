/* Makes, removes and measures trees of directories. */
#ifndef FSCHED_BASE_DIR_TREE_H
#define FSCHED_BASE_DIR_TREE_H

#include <stdint.h>
#include <sys/types.h>

/* Removes the tree name below dirfd. Follows no symbolic link and crosses no mount point. Returns 0 when it does not
 * exist any more (also if it never did), -1 with errno. */
int remove_tree_at(int dirfd, const char *name);
/* The same until now_us() is until: then -1 with ETIME, and a part of the tree is left. */
int remove_tree_until(int dirfd, const char *name, int64_t until);
/* Like mkdir -p. Missing components get exactly mode. Returns 0 or -1 with errno. */
int mkdir_parents(const char *path, mode_t mode);
/* Returns the allocated bytes of all regular files below the directory (st_blocks * 512), -1 if it cannot be read. */
int64_t tree_size_at(int dirfd, const char *name);
/* Drops all files below the directory from the page cache, so that they are read from the disk. The kernel drops clean
 * pages only: call it after a sync. A file system may ignore it. */
void forget_pages_below(int dirfd);

#endif
