/* Which files the job has written and closed again.
 *
 * A file that is open at a checkpoint is found in /proc. One that is not, such
 * as the log of a script that says `echo … >> log` in a loop, would be missed,
 * and after a restore from an older epoch its lines would stand there twice.
 * So the agent listens (fanotify, FAN_CLOSE_WRITE) on the mounts of the pod's
 * own mount namespace, which sees the job's writes and nobody else's, and keeps
 * the paths in the job's directory: `written`, NUL-terminated, absolute, as the
 * pod sees them. The worker reads it (src/files/files.h).
 *
 * An event tells the file, not its name: the name is read when the event is
 * taken. A program that writes a file and then renames it over another one is
 * understood only if the events are taken a moment later than they come.
 * A write through a mapping counts when the mapping goes, a rename or a
 * truncate() by path not at all.
 *
 * Until its event is taken, a file is in use. NFS and its kind rename a file that
 * is deleted while it is in use, and the job's own `rm -r` would then find a
 * directory that is not empty: such file systems are left out.
 */
#ifndef FSCHED_AGENT_WRITE_LIST_H
#define FSCHED_AGENT_WRITE_LIST_H

#include <stdbool.h>
#include <sys/types.h>
#include "base/err.h"
#include "files/files.h"
#include "store/store.h"

#define WRITE_LIST_NAME      FILES_JOURNAL
#define WRITE_LIST_MAX       20000      /* paths; beyond it new ones are not kept */
#define WRITE_LIST_BYTES_MAX (4u << 20) /* of all paths */

struct write_list;

/* Starts listening on the mounts of the pod whose pid 1 is init (host pid) and
 * takes over the journal in the job's directory, or empties it with fresh. The
 * pod's private /tmp (private_tmp), /dev/shm and pseudo file systems are left
 * out. cwd: the job's working directory, for write_list_gap(). Returns NULL with err where the kernel cannot: the job
 * then runs with only its open files protected. */
struct write_list *write_list_open(const struct store *s, pid_t init, bool private_tmp, bool fresh, const char *cwd,
				   struct err *err);
void write_list_close(struct write_list *w);

/* Readable when the job has closed a file it had open for writing. */
int write_list_fd(const struct write_list *w);

/* Takes all events and appends paths that are new to the journal, and those that could not be appended before. Returns
 * whether to look again soon: there were some, or they cannot be saved. Also right after the death of the pod, for what
 * it wrote last. */
bool write_list_drain(struct write_list *w);
/* False while paths are not in the journal because it cannot be written. */
bool write_list_saved(const struct write_list *w);

/* Before a checkpoint: marks mounts that have come since (autofs), and takes paths that lead to no file any more out of
 * a journal that is nearly full. Not while a worker reads the journal. */
void write_list_remark(struct write_list *w);

/* True once paths have been left out because the journal is full. */
bool write_list_full(const struct write_list *w);
/* The type of the file system of the working directory if it is one that is left out, else "". */
const char *write_list_gap(const struct write_list *w);

#endif
