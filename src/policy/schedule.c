#include "policy/schedule.h"

#define SECOND           1000000
#define RETRY_FIRST      (2 * (int64_t)SECOND)
#define RETRY_DOUBLE_MAX 12

void schedule_init(struct schedule *s, int64_t now, int64_t interval, int64_t jitter, unsigned max_skip, unsigned skipped)
{
	*s = (struct schedule){
		.grid = now + jitter,
		.interval = interval,
		.max_skip = max_skip,
		.due = interval > 0 ? now + jitter + interval : SCHEDULE_NEVER,
		.skipped = skipped,
	};
}

void schedule_change(struct schedule *s, int64_t now, int64_t interval)
{
	s->grid = now;
	s->interval = interval;
	s->due = now + interval;
	s->refused = false;
	s->passed = 0;
}

int64_t schedule_jitter(int64_t interval, uint32_t random)
{
	int64_t most = interval / 20;

	if (most > 60 * (int64_t)SECOND)
		most = 60 * (int64_t)SECOND;
	if (most <= 0)
		return 0;
	return (int64_t)((uint64_t)random * (uint64_t)(most + 1) >> 32);
}

/* When the checkpoint is made whatever the gate says. The sum cannot overflow: the interval is at most ten years and
 * max_skip at most 1000. */
static int64_t schedule_deadline(const struct schedule *s)
{
	return s->due + (int64_t)s->max_skip * s->interval;
}

int64_t schedule_wake_at(const struct schedule *s)
{
	if (s->refused)
		return s->ask_at;
	return s->retry ? s->retry : s->due;
}

bool schedule_is_due(const struct schedule *s, int64_t now)
{
	return s->interval > 0 && now >= schedule_wake_at(s);
}

bool schedule_must(const struct schedule *s, int64_t now)
{
	return s->interval > 0 && (s->max_skip == 0 || (s->refused && now >= schedule_deadline(s)));
}

/* Counts the whole intervals that have passed since the refused due time and were not counted before. */
static unsigned schedule_count_passed(struct schedule *s, int64_t now)
{
	unsigned before = s->passed;

	if (!s->refused || now < s->due)
		return 0;
	s->passed = (unsigned)((now - s->due) / s->interval);
	s->skipped += s->passed - before;
	return s->passed - before;
}

unsigned schedule_refused(struct schedule *s, int64_t now)
{
	int64_t pause = s->interval / 20;

	if (s->interval <= 0)
		return 0;
	if (!s->refused) {
		/* Intervals that passed before the first refusal were not lost to load, so counting starts at the last
		 * grid point. */
		if (now > s->due)
			s->due += (now - s->due) / s->interval * s->interval;
		s->refused = true;
	}
	if (pause > 60 * (int64_t)SECOND)
		pause = 60 * (int64_t)SECOND;
	if (pause < 5 * (int64_t)SECOND)
		pause = 5 * (int64_t)SECOND;
	s->ask_at = now + pause;
	/* Not later than the time at which the checkpoint is made in any case. */
	if (now < schedule_deadline(s) && s->ask_at > schedule_deadline(s))
		s->ask_at = schedule_deadline(s);
	return schedule_count_passed(s, now);
}

unsigned schedule_begun(struct schedule *s, int64_t now)
{
	unsigned counted = schedule_count_passed(s, now);

	/* Time that passes from now on is spent by the checkpoint, not lost to load. */
	s->refused = false;
	s->passed = 0;
	s->retry = 0;
	return counted;
}

static void schedule_set_retry(struct schedule *s, int64_t now, bool again)
{
	int64_t pause = RETRY_FIRST << (s->tries < RETRY_DOUBLE_MAX ? s->tries : RETRY_DOUBLE_MAX);

	s->tries = again ? s->tries + 1 : 0;
	s->retry = again && now + pause < s->due ? now + pause : 0;
}

void schedule_finished(struct schedule *s, int64_t now, bool again)
{
	if (s->interval <= 0)
		return;
	s->refused = false;
	s->passed = 0;
	if (now >= s->grid)
		s->due = s->grid + ((now - s->grid) / s->interval + 1) * s->interval;
	schedule_set_retry(s, now, again);
}
