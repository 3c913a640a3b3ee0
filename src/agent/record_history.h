/* The job's history (store/history.h): each function counts one event and, unless it says otherwise, writes the file.
 * What cannot be written is kept in memory and logged, and does not concern the job. An event before the directory is
 * open is kept, too. Nothing is written in a freeze. */
#ifndef FSCHED_AGENT_RECORD_HISTORY_H
#define FSCHED_AGENT_RECORD_HISTORY_H

#include "agent/job.h"

/* The run began from the beginning. over: instead of a restore that was not possible. */
void record_history_started(struct job *j, bool over);
/* trigger: op_name(). leaves: the job is not thawed, so its freeze is not counted. result: of the worker. Does not
 * write: record_history_write() or record_history_left() follows when the job does not stand still. */
void record_history_epoch(struct job *j, const char *trigger, bool leaves, unsigned epoch, const json_t *result);
void record_history_write(struct job *j);
/* refused: nothing was begun. */
void record_history_failed(struct job *j, const char *trigger, unsigned epoch, bool refused, const char *why);
void record_history_skipped(struct job *j, unsigned n, const char *why);
/* Saved, and off the node. */
void record_history_left(struct job *j, const char *trigger, unsigned epoch);
/* took: us. last_seen: Unix time of the last sign of life of the run before, 0 = not known. */
void record_history_restored(struct job *j, unsigned epoch, int64_t took, int64_t last_seen);
void record_history_restore_failed(struct job *j, unsigned epoch, const char *why);
void record_history_moved(struct job *j, const char *why);
void record_history_held(struct job *j, const char *why);
void record_history_ended(struct job *j, const char *how);
/* Counted, and written with the next event: the file system is slow at that moment. */
void record_history_lease_late(struct job *j);

#endif
