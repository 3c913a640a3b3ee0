/* When the next periodic checkpoint of a job is due.
 *
 * Due times lie on a grid: start + jitter + n * interval, n = 1, 2, ... The
 * jitter keeps jobs that started together from writing together. Whatever
 * checkpoint ends (periodic or on request, good or failed), the next due time
 * is the first grid point behind that end: a late one is not doubled.
 *
 * While the load gate refuses, the gate is asked again every
 * max(5 s, min(60 s, interval / 20)), and when max_skip whole intervals have passed
 * since the due time that it first refused, the checkpoint is made anyway.
 * Every whole interval that passes in this state counts as one skipped
 * checkpoint; a refusal that ends within the interval skips nothing.
 *
 * One that failed for a reason that passes (transient.h) is tried again after 2, 4, 8, ... s, as long as that is before
 * the next due time.
 *
 * Pure: times are microseconds of CLOCK_MONOTONIC (which stands still while the
 * machine sleeps) and are given by the caller.
 *
 *   schedule_init(&s, now, interval, jitter, max_skip, skipped so far);
 *   timer at schedule_wake_at(&s):
 *     if (!schedule_is_due(&s, now))            set the timer again
 *     else if (gate refuses && !schedule_must(&s, now))  schedule_refused(&s, now)
 *     else { schedule_begun(&s, now); checkpoint; schedule_finished(&s, now, …); }
 */
#ifndef FSCHED_POLICY_SCHEDULE_H
#define FSCHED_POLICY_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE_NEVER INT64_MAX

struct schedule {
	int64_t grid;      /* start + jitter */
	int64_t interval;  /* 0 = on request only */
	unsigned max_skip; /* CheckpointMaxSkip; 0 = the gate is never obeyed */
	int64_t due;       /* the grid point to be served next */
	bool refused;      /* the gate has refused since `due` */
	int64_t look;      /* while refused: when to ask the gate again */
	unsigned passed;   /* while refused: whole intervals since `due` */
	unsigned skipped;  /* in all, includes `passed` */
	int64_t retry;     /* the failed one is tried again then; 0 = it is not */
	unsigned tries;    /* that have failed one after the other */
};

/* interval in us, 0 = on request only. skipped: the number to go on counting from. */
void schedule_init(struct schedule *s, int64_t now, int64_t interval, int64_t jitter, unsigned max_skip,
		   unsigned skipped);
/* A jitter of 0 .. min(5 % of interval, 60 s); random: any number, evenly spread. */
int64_t schedule_jitter(int64_t interval, uint32_t random);

/* When the caller should look again, or SCHEDULE_NEVER. */
int64_t schedule_wake_at(const struct schedule *s);
/* True if a periodic checkpoint is due, or has been refused and it is time to ask the gate again. */
bool schedule_is_due(const struct schedule *s, int64_t now);
/* True if the gate must not be asked any more. */
bool schedule_must(const struct schedule *s, int64_t now);

/* The gate refused. Returns how many checkpoints are thereby newly counted as skipped. */
unsigned schedule_refused(struct schedule *s, int64_t now);
/* A checkpoint of any kind begins. Returns what schedule_refused() does. */
unsigned schedule_begun(struct schedule *s, int64_t now);
/* It has ended, well or not. again: a periodic one has failed for a reason that passes. */
void schedule_finished(struct schedule *s, int64_t now, bool again);

#endif
