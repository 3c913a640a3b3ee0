/* Which file system a path of the pod is on, by the text of /proc/PID/mountinfo: nothing is opened, no file server is
 * asked. */
#ifndef FSCHED_POD_MOUNT_TABLE_H
#define FSCHED_POD_MOUNT_TABLE_H

#include <sys/types.h>
#include "base/err.h"

struct mount_table;

/* Of a process; 0: the caller. NULL with err. */
struct mount_table *mount_table_read(pid_t pid, struct err *err);
void mount_table_free(struct mount_table *t);
/* Type of the file system ("proc"), and where it is mounted; both are t's. NULL: no mount is above that path. */
const char *mount_table_find(const struct mount_table *t, const char *path, const char **mounted_at);

#endif
