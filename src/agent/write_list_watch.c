/* The list of files that the job writes (written.h), in the loop.
 *
 * One look per second while the job writes, none while it does not. The look comes a second after the first event: by
 * then most programs that write to a temporary name have given the file its real one. */
#include "agent/agent.h"

#include <stdio.h>

#include "agent/write_list.h"
#include "base/clock.h"

#define PAUSE 1000000 /* us */

static void on_readable(void *arg);

static void report_full(struct agent *a)
{
	if (!written_full(a->written.w))
		return;
	if (!a->written.said_full)
		job_log(a,
			"warning: the job has written more than %d files: further ones are not rolled back at a restore unless they are "
			"open then",
			WRITTEN_MAX);
	a->written.said_full = true;
}

static void listen_again(struct agent *a)
{
	loop_add(&a->loop, &a->written.source, written_fd(a->written.w), on_readable, a);
}

static void on_pause_over(void *arg)
{
	struct agent *a = arg;

	if (written_drain(a->written.w))
		loop_timer_set(&a->loop, &a->written.pause, now_us() + PAUSE, on_pause_over, a);
	else
		listen_again(a);
	report_full(a);
}

static void on_readable(void *arg)
{
	struct agent *a = arg;

	loop_remove(&a->loop, &a->written.source);
	loop_timer_set(&a->loop, &a->written.pause, now_us() + PAUSE, on_pause_over, a);
}

void written_start(struct agent *a, pid_t init, bool fresh)
{
	const char *gap;
	struct err err;

	written_stop(a);
	if (!a->store_ok)
		return;
	a->written.w = written_open(&a->store, init, a->task.private_tmp, fresh, a->task.cwd, &err);
	if (!a->written.w) {
		job_log(a, "warning: only files that are open at a checkpoint will be rolled back at a restore: %s",
			err.text);
		return;
	}
	gap = written_gap(a->written.w);
	if (*gap)
		job_log(a,
			"the working directory is on %s: only files that are open at a checkpoint will be rolled back there at a restore",
			gap);
	listen_again(a);
}

void written_before(struct agent *a)
{
	if (!a->written.w)
		return;
	written_drain(a->written.w);
	written_remark(a->written.w);
	report_full(a);
}

void written_frozen(struct agent *a)
{
	if (!a->written.w)
		return;
	written_drain(a->written.w);
	/* without the word it waits in vain and warns that the list is not up to date */
	if (written_saved(a->written.w))
		proc_send(&a->op.worker, "go");
}

void written_stop(struct agent *a)
{
	/* what the job wrote last: in the second since the last look, in a trap when it was ended */
	if (a->written.w && a->store_ok)
		written_drain(a->written.w);
	loop_remove(&a->loop, &a->written.source);
	loop_timer_clear(&a->loop, &a->written.pause);
	written_close(a->written.w);
	a->written.w = NULL;
}
