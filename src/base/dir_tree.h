/* Trees of directories: made, removed, measured. */
#ifndef FSCHED_BASE_DIR_TREE_H
#define FSCHED_BASE_DIR_TREE_H

#include <stdint.h>
#include <sys/types.h>

/* Removes the tree name below dirfd, never following a symbolic link and never
 * crossing to another file system. 0 when it is gone (also if it never was). */
int remove_tree_at(int dirfd, const char *name);
/* mkdir -p with mode for the missing components. 0 or -1 with errno. */
int mkdir_parents(const char *path, mode_t mode);
/* Number of bytes of all regular files below the directory (st_blocks * 512). */
int64_t tree_size_at(int dirfd, const char *name);

#endif
