/* The lists of files that the job writes (write_list.h) and of names that it changes (name_list.h), kept by the loop.
 *
 * The list is brought up to date once per second while the job writes, and not at all while it does not. This is done a
 * second after the first event: by then most programs that write to a temporary name have given the file its real one.
 */
#ifndef FSCHED_AGENT_WRITE_LIST_WATCH_H
#define FSCHED_AGENT_WRITE_LIST_WATCH_H

#include <stdbool.h>
#include <sys/types.h>
#include "agent/job.h"
#include "agent/loop.h"
#include "agent/name_list.h"
#include "agent/write_list.h"

struct write_list_watch {
	struct job *job;
	struct write_list *list;   /* NULL: there is no list */
	struct loop_source source; /* fd -1 before the first use */
	struct loop_timer pause;
	bool said_full;
	struct name_list *names;        /* NULL: there is no list */
	struct loop_source name_source; /* fd -1 before the first use */
	struct loop_timer name_pause;
	char names_gap[160]; /* why names in the working directory are not noted, or "" */
	bool names_lost;     /* changes of names were left out since the last epoch */
};

/* Call it before anything of the job can run in the pod whose pid 1 is init (host pid) and whose control socket is ctl.
 * fresh: the job starts from the
 * beginning, so the list begins empty. A failure is logged; there is no list then. */
void write_list_watch_start(struct write_list_watch *w, pid_t init, int ctl, bool fresh);
/* What a restore from now on will not undo, as a sentence for the epoch's warnings and for "able"; "" = nothing. */
const char *write_list_watch_gap(const struct write_list_watch *w, char *text, size_t len);
/* A worker is about to be started for a checkpoint. */
void write_list_watch_prepare(struct write_list_watch *w);
/* The worker has frozen the job and waits for the list to be complete. Returns whether the list is, on disk. Otherwise
 * the worker waits in vain and warns that the list is not up to date. */
bool write_list_watch_frozen(struct write_list_watch *w);
/* Call it when the pod is dead and before the lease is given back: takes the last events. */
void write_list_watch_stop(struct write_list_watch *w);

#endif
