/* Which files the job has written and closed again.
 *
 * A file that is open at a checkpoint is found in /proc. One that is not, such
 * as the log of a script that says `echo … >> log` in a loop, would be missed,
 * and after a restore from an older epoch its lines would stand there twice.
 * So the agent listens (fanotify, FAN_CLOSE_WRITE) on the mounts of the pod's
 * own mount namespace, which sees the job's writes and nobody else's, and keeps
 * the paths in the job's directory: `written`, NUL-terminated, absolute, as the
 * pod sees them. The worker reads it (src/store/files.h).
 *
 * Needs CONFIG_FANOTIFY; mount marks work on every file system, NFS included.
 * Writes through a mapping are not seen after the close; files mapped at the
 * checkpoint are found in /proc.
 */
#ifndef FSCHED_AGENT_WRITTEN_H
#define FSCHED_AGENT_WRITTEN_H

#include <stdbool.h>
#include <sys/types.h>
#include "common/err.h"
#include "store/store.h"

#define WRITTEN_NAME "written"
#define WRITTEN_MAX 20000   /* paths; beyond it new ones are not kept, and written_drain() says so once */

struct written;

/* Starts listening on the mounts of the pod whose pid 1 is init (host pid) and
 * takes over the journal in the job's directory, or empties it with fresh. The
 * pod's private /tmp (private_tmp), /dev/shm and pseudo file systems are left
 * out. Returns NULL with err where the kernel cannot: the job then runs with
 * only its open files protected. */
struct written *written_open(const struct store *s, pid_t init, bool private_tmp, bool fresh, struct err *err);
void written_close(struct written *w);

/* Readable when the job has closed a file it had open for writing. */
int written_fd(const struct written *w);

/* Reads all events and appends paths that are new to the journal. */
void written_drain(struct written *w);

/* Marks mounts that have come since (autofs). Cheap; before each checkpoint. */
void written_remark(struct written *w);

#endif
