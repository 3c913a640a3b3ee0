/* Which files the job has written and closed again.
 *
 * A file that is open at a checkpoint is found in /proc. One that is not, such as the log of a script that calls
 * `echo ... >> log` in a loop, would be missed, and after a restore from an older epoch it would hold its last lines
 * twice. So the agent listens (fanotify, FAN_CLOSE_WRITE) on the mounts of the pod's own mount namespace, where only
 * the job's writes are seen, and keeps the paths in the job's directory: `written`, absolute paths as the pod sees
 * them, each ended by NUL. The worker reads it (src/files/files.h).
 *
 * An event identifies the file, not its name: the name is read when the event is taken. If a program writes a file and
 * then renames it over another one, the list is right only if the event is taken a moment after it came. A write
 * through a mapping counts when the mapping is removed. A rename or a truncate() by path does not count.
 *
 * Until its event is taken, a file is in use. NFS and similar file systems rename a file that is deleted while it is in
 * use, so the job's own `rm -r` would find a directory that is not empty: such file systems are left out. What is
 * opened for writing there is noted when it is opened (agent/open_watch.h), where the kernel can do that.
 */
#ifndef FSCHED_AGENT_WRITE_LIST_H
#define FSCHED_AGENT_WRITE_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "files/files.h"
#include "store/store.h"

#define WRITE_LIST_NAME        FILES_JOURNAL
#define WRITE_LIST_MAX         20000                /* paths; beyond it new ones are not kept */
#define WRITE_LIST_DELETED_MAX (WRITE_LIST_MAX / 4) /* of them names of files that were deleted */
#define WRITE_LIST_BYTES_MAX   (4u << 20)           /* of all paths */

struct write_list;

/* Starts to listen on the mounts of the pod whose pid 1 is init (host pid). Takes over the list in the job's directory
 * s, which must stay open, or empties it if fresh. The pod's private /tmp (private_tmp), /dev/shm and pseudo file
 * systems are left out. cwd: the job's working directory, for write_list_left_out(). Returns NULL with err where the
 * kernel cannot do it: then only open files of the job are protected. */
struct write_list *write_list_open(const struct store *s, pid_t init, bool private_tmp, bool fresh, const char *cwd,
				   struct err *err);
void write_list_close(struct write_list *w);

/* Readable when the job has closed a file it had open for writing. */
int write_list_fd(const struct write_list *w);

/* Takes events for up to max_us microseconds, and appends to the list on disk the paths that are new and those that
 * could not be appended before. Returns true if it should be called again soon: there were events, or paths cannot be
 * saved. It also works right after the death of the pod, for what the job wrote last. */
bool write_list_drain(struct write_list *w, int64_t max_us);
/* True if events were left: the job makes them faster than they are taken. After 30 s of that they are dropped, and the
 * list counts as full. */
bool write_list_behind(const struct write_list *w);
/* False while paths are missing on disk because the file cannot be written. */
bool write_list_saved(const struct write_list *w);

/* Before a checkpoint: marks mounts that are new (autofs), and removes paths without a file from a list that is nearly
 * full. Not while a worker reads the list. */
void write_list_remark(struct write_list *w);

/* Calls fn for each mount that is watched, now and when new ones are found. path: leads to its mount point from here;
 * fstype: of its file system; has_cwd: the working directory is probably on it (the last such call is right). */
typedef void write_list_mount_fn(void *arg, const char *path, const char *fstype, bool has_cwd);
void write_list_tell_mounts(struct write_list *w, write_list_mount_fn *fn, void *arg);

/* True once paths have been left out because the list is full, or came faster than they could be taken. */
bool write_list_full(const struct write_list *w);
/* The type of the working directory's file system if it is one that is left out, else "". Owned by w. */
const char *write_list_left_out(const struct write_list *w);
/* Why files that the job writes and closes there are not noted either; "": they are. Owned by w. */
const char *write_list_gap(const struct write_list *w);

#endif
