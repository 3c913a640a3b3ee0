/* Which names the job has changed: directories, links, renames and deletions.
 *
 * The agent listens (fanotify, FAN_CREATE, FAN_DELETE, FAN_RENAME; Linux 5.17) on the file systems whose mounts
 * write_list.h watches. Such events exist for whole file systems only, so fsched-init sorts out those of the pod's
 * processes (pod/names_relay.h). What they change goes to FILES_NAMES in the job's directory, whose format is in
 * files/names.h. A name is noted when it is first changed in an interval, and when the job puts another file there. A
 * name that was made and is gone before it was noted is not noted at all.
 */
#ifndef FSCHED_AGENT_NAME_LIST_H
#define FSCHED_AGENT_NAME_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "store/store.h"

#define NAME_LIST_MAX       200000      /* names in an interval; beyond it new ones are not kept */
#define NAME_LIST_BYTES_MAX (48u << 20) /* of the journal */

struct name_list;

/* ctl: the control socket of the pod whose pid 1 is init (host pid). Begins an interval. fresh: empties the journal
 * first. private_tmp: what happens in the pod's /tmp is left out. NULL with err where the kernel cannot do it. */
struct name_list *name_list_open(const struct store *s, pid_t init, int ctl, bool private_tmp, bool fresh,
				 struct err *err);
void name_list_close(struct name_list *l);

/* Listens on the file system of a mount; path leads to its mount point from here. False with errno if it has no such
 * events. Calling it again for the same mount does nothing. */
bool name_list_add_mount(struct name_list *l, const char *path);

/* Readable when there are events. */
int name_list_fd(const struct name_list *l);
/* Takes events that are there for up to max_us microseconds, and saves. True if it should be called again soon. */
bool name_list_drain(struct name_list *l, int64_t max_us);
/* The same, with all that the job has done until now, and begins the next interval. False if that took too long, or
 * cannot be saved. */
bool name_list_begin_interval(struct name_list *l, int64_t max_us);

/* Removes names from a journal of `from` bytes or more which make no difference to any epoch: those that were not there
 * before any interval and are not there now. Takes events for up to max_us; if that is too short, nothing is removed.
 * Not while a worker reads it. */
void name_list_shorten(struct name_list *l, uint64_t from, int64_t max_us);

/* True if names were left out since the last call. */
bool name_list_lost(struct name_list *l);

#endif
