/* The mounts of a process, from the text of /proc/PID/mountinfo: tells the file system of a path without opening the
 * path or asking a file server. */
#ifndef FSCHED_POD_MOUNT_TABLE_H
#define FSCHED_POD_MOUNT_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "base/err.h"

struct mount_table;

/* Reads the table of a process; 0: the caller. To be freed with mount_table_free(). NULL with err. */
struct mount_table *mount_table_read(pid_t pid, struct err *err);
void mount_table_free(struct mount_table *t);
/* The type of the file system of an absolute path ("proc"), and in *mounted_at where that is mounted. Both belong to t.
 * NULL: the table has no mount above the path. */
const char *mount_table_find(const struct mount_table *t, const char *path, const char **mounted_at);

/* A line of mountinfo: a file system (FUSE) that an ordinary user serves. It answers when he wants it to, and who asks
 * it waits in a way that not even SIGKILL ends. */
static inline bool mount_is_users(const char *line)
{
	const char *dash = strstr(line, " - "), *by = dash ? strstr(dash, "user_id=") : NULL;

	return dash && !strncmp(dash + 3, "fuse", 4) && by && strtoul(by + 8, NULL, 10) != 0;
}

/* By the id of a mount, as statx() tells it. */
enum mount_kind { MOUNT_UNKNOWN, MOUNT_NODES, MOUNT_USERS };
enum mount_kind mount_table_kind(const struct mount_table *t, uint64_t id);

#endif
