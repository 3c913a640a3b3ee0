#include "agent/write_list_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "agent/write_list.h"
#include "base/clock.h"

#define WRITE_LIST_PAUSE        1000000 /* us */
/* us that one read may take: the loop also serves the lease and requests, however fast the job writes */
#define WRITE_LIST_READ_MAX     200000
#define WRITE_LIST_BEHIND_PAUSE 50000   /* us, after a read that took that long */
#define NAME_LIST_PAUSE         200000  /* us; changes of this time may be missing after a failure of the node */
#define WRITE_LIST_LAST_MAX     1500000 /* us, where the list must be complete: the worker waits 2 s for it */

static void write_list_on_readable(void *arg);

static void write_list_report_full(struct write_list_watch *w)
{
	if (!write_list_full(w->list))
		return;
	if (!w->said_full)
		job_log(w->job,
			"warning: the job has written more than %d files, or too many at once: further ones are not rolled back at a "
			"restore unless they are open then",
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

/* ---- names ---- */

static void name_list_on_readable(void *arg);

static void name_list_listen(struct write_list_watch *w)
{
	loop_add(w->job->loop, &w->name_source, name_list_fd(w->names), name_list_on_readable, w);
}

static void name_list_note_lost(struct write_list_watch *w)
{
	if (!name_list_lost(w->names))
		return;
	if (!w->names_lost)
		job_log(w->job,
			"warning: the job changes more names than can be noted: not all that it makes, moves and deletes before the next "
			"checkpoint is undone at a restore");
	w->names_lost = true;
}

static void name_list_on_pause_over(void *arg)
{
	struct write_list_watch *w = arg;

	if (name_list_drain(w->names, WRITE_LIST_READ_MAX))
		loop_timer_set(w->job->loop, &w->name_pause, now_us() + NAME_LIST_PAUSE, name_list_on_pause_over, w);
	else
		name_list_listen(w);
	name_list_note_lost(w);
}

static void name_list_on_readable(void *arg)
{
	struct write_list_watch *w = arg;

	loop_remove(w->job->loop, &w->name_source);
	loop_timer_set(w->job->loop, &w->name_pause, now_us() + NAME_LIST_PAUSE, name_list_on_pause_over, w);
}

static void name_list_on_mount(void *arg, const char *path, const char *fstype, bool has_cwd)
{
	struct write_list_watch *w = arg;

	const bool can = name_list_add_mount(w->names, path);
	if (!has_cwd)
		return;
	w->names_gap[0] = '\0';
	if (!can)
		snprintf(w->names_gap, sizeof(w->names_gap), "%s has no events of names: %s", fstype, strerror(errno));
}

static void name_list_start(struct write_list_watch *w, pid_t init, int ctl, bool fresh)
{
	struct err err;

	w->names_lost = false;
	w->names = name_list_open(&w->job->store, init, ctl, w->job->task.private_tmp, fresh, &err);
	if (!w->names) {
		snprintf(w->names_gap, sizeof(w->names_gap), "%.150s", err.text);
	} else {
		write_list_tell_mounts(w->list, name_list_on_mount, w);
		name_list_listen(w);
	}
	if (w->names_gap[0])
		job_log(w->job, "warning: directories, links, renames and deletions will not be undone at a restore: %s",
			w->names_gap);
}

static void name_list_stop(struct write_list_watch *w)
{
	if (w->names && w->job->store_ok)
		name_list_drain(w->names, WRITE_LIST_LAST_MAX);
	loop_remove(w->job->loop, &w->name_source);
	loop_timer_clear(w->job->loop, &w->name_pause);
	name_list_close(w->names);
	w->names = NULL;
	w->names_gap[0] = '\0';
}

const char *write_list_watch_gap(const struct write_list_watch *w, char *text, size_t len)
{
	text[0] = '\0';
	if (w->names_gap[0])
		snprintf(text, len,
			 "directories, links, renames and deletions of the job are not undone at a restore: %s",
			 w->names_gap);
	else if (w->list && *write_list_gap(w->list))
		snprintf(text, len,
			 "the working directory is on %s: at a restore only files that are open at the checkpoint are rolled back "
			 "there, and no names: %s",
			 write_list_left_out(w->list), write_list_gap(w->list));
	else if (w->list && *write_list_left_out(w->list))
		snprintf(text, len,
			 "the working directory is on %s: directories, links, renames and deletions of the job are not undone "
			 "there at a restore",
			 write_list_left_out(w->list));
	return text;
}

/* ---- both ---- */

void write_list_watch_start(struct write_list_watch *w, pid_t init, int ctl, bool fresh)
{
	struct job *j = w->job;
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
	if (*write_list_gap(w->list))
		job_log(j,
			"the working directory is on %s: only files that are open at a checkpoint will be rolled back there at a restore: %s",
			write_list_left_out(w->list), write_list_gap(w->list));
	write_list_listen(w);
	name_list_start(w, init, ctl, fresh);
}

void write_list_watch_prepare(struct write_list_watch *w)
{
	if (!w->list)
		return;
	write_list_drain(w->list, WRITE_LIST_LAST_MAX);
	write_list_remark(w->list);
	write_list_report_full(w);
	if (!w->names)
		return;
	name_list_shorten(w->names, NAME_LIST_BYTES_MAX / 2, WRITE_LIST_LAST_MAX);
	name_list_begin_interval(w->names, WRITE_LIST_LAST_MAX);
	w->names_lost = false;
}

bool write_list_watch_frozen(struct write_list_watch *w)
{
	if (!w->list)
		return false;
	write_list_drain(w->list, WRITE_LIST_LAST_MAX);
	const bool names = !w->names || name_list_begin_interval(w->names, WRITE_LIST_LAST_MAX);
	return write_list_saved(w->list) && !write_list_behind(w->list) && names;
}

void write_list_watch_stop(struct write_list_watch *w)
{
	name_list_stop(w);
	/* what the job wrote last: in the second since the list was brought up to date, or in a trap when it ended */
	if (w->list && w->job->store_ok)
		write_list_drain(w->list, WRITE_LIST_LAST_MAX);
	loop_remove(w->job->loop, &w->source);
	loop_timer_clear(w->job->loop, &w->pause);
	write_list_close(w->list);
	w->list = NULL;
}
