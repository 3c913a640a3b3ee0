#include "agent/write_list_watch.h"

#include <stdio.h>

#include "base/util.h"
#include "agent/write_list.h"
#include "base/clock.h"

#define WRITE_LIST_PAUSE        1000000 /* us */
/* us that one read may take: the loop also serves the lease and requests, however fast the job writes */
#define WRITE_LIST_READ_MAX     200000
#define WRITE_LIST_BEHIND_PAUSE 50000   /* us, after a read that took that long */
#define WRITE_LIST_LAST_MAX     1500000 /* us, where the list must be complete: the worker waits 2 s for it */

static void write_list_on_readable(void *arg);

static void write_list_report_full(struct write_list_watch *w)
{
	if (!write_list_full(w->list))
		return;
	if (!w->said_full)
		job_log(w->job,
			"warning: the job has written more than %d files: further ones are not rolled back at a restore unless they are "
			"open then",
			WRITE_LIST_MAX);
	w->said_full = true;
}

static void write_list_listen(struct write_list_watch *w)
{
	loop_add(w->job->loop, &w->source, write_list_fd(w->list), write_list_on_readable, w);
}

static void write_list_on_pause_over(void *arg)
{
	struct write_list_watch *w = arg;

	if (write_list_drain(w->list, WRITE_LIST_READ_MAX))
		loop_timer_set(w->job->loop, &w->pause,
			       now_us() + (write_list_behind(w->list) ? WRITE_LIST_BEHIND_PAUSE : WRITE_LIST_PAUSE),
			       write_list_on_pause_over, w);
	else
		write_list_listen(w);
	write_list_report_full(w);
}

static void write_list_on_readable(void *arg)
{
	struct write_list_watch *w = arg;

	loop_remove(w->job->loop, &w->source);
	loop_timer_set(w->job->loop, &w->pause, now_us() + WRITE_LIST_PAUSE, write_list_on_pause_over, w);
}

void write_list_watch_start(struct write_list_watch *w, pid_t init, bool fresh)
{
	struct job *j = w->job;
	const char *gap;
	struct err err;

	write_list_watch_stop(w);
	if (!j->store_ok)
		return;
	w->list = write_list_open(&j->store, init, j->task.private_tmp, fresh, j->task.cwd, &err);
	if (!w->list) {
		job_log(j, "warning: only files that are open at a checkpoint will be rolled back at a restore: %s",
			err.text);
		return;
	}
	gap = write_list_gap(w->list);
	if (*gap)
		job_log(j,
			"the working directory is on %s: only files that are open at a checkpoint will be rolled back there at a restore",
			gap);
	write_list_listen(w);
}

void write_list_watch_prepare(struct write_list_watch *w)
{
	if (!w->list)
		return;
	write_list_drain(w->list, WRITE_LIST_LAST_MAX);
	write_list_remark(w->list);
	write_list_report_full(w);
}

bool write_list_watch_frozen(struct write_list_watch *w)
{
	if (!w->list)
		return false;
	write_list_drain(w->list, WRITE_LIST_LAST_MAX);
	return write_list_saved(w->list) && !write_list_behind(w->list);
}

void write_list_watch_stop(struct write_list_watch *w)
{
	/* what the job wrote last: in the second since the list was brought up to date, or in a trap when it ended */
	if (w->list && w->job->store_ok)
		write_list_drain(w->list, WRITE_LIST_LAST_MAX);
	loop_remove(w->job->loop, &w->source);
	loop_timer_clear(w->job->loop, &w->pause);
	write_list_close(w->list);
	w->list = NULL;
}
