/* The mounts of a process, from the text of /proc/PID/mountinfo: tells the file system of a path without opening the
 * path or asking a file server. */
#ifndef FSCHED_POD_MOUNT_TABLE_H
#define FSCHED_POD_MOUNT_TABLE_H

#include <sys/types.h>
#include "base/err.h"

struct mount_table;

/* Reads the table of a process; 0: the caller. To be freed with mount_table_free(). NULL with err. */
struct mount_table *mount_table_read(pid_t pid, struct err *err);
void mount_table_free(struct mount_table *t);
/* The type of the file system of an absolute path ("proc"), and in *mounted_at where that is mounted. Both belong to t.
 * NULL: the table has no mount above the path. */
const char *mount_table_find(const struct mount_table *t, const char *path, const char **mounted_at);
/* Decodes, in place, the \ooo by which mountinfo writes blank, tab, line feed and backslash. Returns text. */
char *mount_table_unescape(char *text);

#endif
