/* When the next periodic checkpoint of a job is due.
 *
 * Due times lie on a grid: start + jitter + n * interval, n = 1, 2, ... The jitter prevents that jobs that started
 * together write together. Whenever a checkpoint ends (periodic or on request, successful or not), the next due time is
 * the first grid point after that end, so a late checkpoint is not followed at once by another one.
 *
 * While the load gate refuses, it is asked again every max(5 s, min(60 s, interval / 20)). When max_skip whole
 * intervals have passed since the due time that it first refused, the checkpoint is made without asking the gate. Each
 * whole interval that passes in this state counts as one skipped checkpoint; a refusal that ends within the interval
 * skips none.
 *
 * A checkpoint that failed for a reason that passes (obstacle_retry_checkpoint() in obstacle.h) is tried again after 2,
 * 4, 8, ... s, as long as that is before the next due time.
 *
 * Pure: times are microseconds of CLOCK_MONOTONIC (which stops while the machine is suspended) and come from the
 * caller.
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
	unsigned max_skip; /* CheckpointMaxSkip; 0 = the gate is ignored */
	int64_t due;       /* the next grid point at which a checkpoint is due */
	bool refused;      /* the gate has refused since `due` */
	int64_t ask_at;    /* while refused: when to ask the gate again */
	unsigned passed;   /* while refused: whole intervals since `due` */
	unsigned skipped;  /* total, includes `passed` */
	int64_t retry;     /* when the failed checkpoint is tried again; 0 = it is not */
	unsigned tries;    /* attempts that have failed in succession */
};

/* interval in us, 0 = on request only. skipped: initial value of the counter. */
void schedule_init(struct schedule *s, int64_t now, int64_t interval, int64_t jitter, unsigned max_skip,
		   unsigned skipped);
/* Changes the interval: the next checkpoint is due one interval from now. interval > 0. */
void schedule_change(struct schedule *s, int64_t now, int64_t interval);
/* A jitter of 0 .. min(5 % of interval, 60 s). random: uniformly distributed. */
int64_t schedule_jitter(int64_t interval, uint32_t random);

/* When the caller is to call schedule_is_due() again, or SCHEDULE_NEVER. */
int64_t schedule_wake_at(const struct schedule *s);
/* True if a periodic checkpoint is due, or if it was refused and the gate is to be asked again. */
bool schedule_is_due(const struct schedule *s, int64_t now);
/* True if the checkpoint is to be made whatever the gate says. */
bool schedule_must(const struct schedule *s, int64_t now);

/* To be called when the gate has refused. Returns how many more checkpoints now count as skipped. */
unsigned schedule_refused(struct schedule *s, int64_t now);
/* To be called when a checkpoint of any kind begins. Returns the same as schedule_refused(). */
unsigned schedule_begun(struct schedule *s, int64_t now);
/* To be called when it has ended, successful or not. again: a periodic checkpoint failed for a reason that passes. */
void schedule_finished(struct schedule *s, int64_t now, bool again);

#endif
