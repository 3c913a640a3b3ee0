/* The interval of --checkpoint=auto: as often as pays.
 *
 * A checkpoint costs a job the work of C seconds; a failure of its node, once in M seconds on average, costs what the
 * job has done since its last checkpoint. J. T. Daly, "A higher order estimate of the optimum checkpoint interval for
 * restart dumps", Future Generation Computer Systems 22 (2006) 303-312, equation (37), gives the time of work between
 * two checkpoints for which the sum is least:
 *
 *   t = sqrt(2 C M) (1 + sqrt(C / 2M) / 3 + (C / 2M) / 9) - C    for C < 2M, else M
 *
 * Its first term is J. W. Young, "A first order approximation to the optimum checkpoint interval", Communications of
 * the ACM 17 (1974) 530-531. An interval here goes from the begin of a checkpoint to that of the next one: t + C.
 *
 * C is the time for which the job stands still, and a tenth of the rest of the checkpoint, in which its memory is
 * written while it computes: it was 6 to 13 % slower then (docs/benchmarks.md).
 *
 * Pure functions.
 */
#ifndef FSCHED_POLICY_AUTO_INTERVAL_H
#define FSCHED_POLICY_AUTO_INTERVAL_H

#include <stdbool.h>
#include <stdint.h>
#include "store/history.h"

#define AUTO_SAMPLES 5   /* the last so many checkpoints count */
#define AUTO_FIRST   600 /* s: the interval before the first one */
#define AUTO_BUSY    10  /* a checkpoint may take at most such a part of the interval in all */

/* What a checkpoint of a job costs, as the mean of its last checkpoints after which it ran on. */
struct auto_cost {
	unsigned samples; /* 0: none was made, and all else is 0 */
	int64_t frozen_us, total_us;
	int64_t cost_us; /* C */
};
void auto_cost_of(const struct job_history *h, struct auto_cost *c);

struct auto_bounds {
	int64_t mtbf;     /* s: M */
	int64_t min, max; /* s: CheckpointMinInterval, CheckpointAutoMax; min wins */
};

enum auto_bound {
	AUTO_OPTIMUM, /* the interval is the optimum */
	AUTO_UNKNOWN, /* no checkpoint was made yet */
	AUTO_AT_BUSY, /* the optimum is shorter than AUTO_BUSY checkpoints take */
	AUTO_AT_MIN,
	AUTO_AT_MAX,
};
const char *auto_bound_name(enum auto_bound b); /* "busy", "minimum", ...; "" for AUTO_OPTIMUM */

struct auto_advice {
	int64_t optimum;  /* s, at least 1; 0 = not known */
	int64_t interval; /* s */
	enum auto_bound bound;
};
void auto_advise(const struct auto_cost *c, const struct auto_bounds *b, struct auto_advice *a);

/* The part of its time that a job loses at an interval of so many seconds: for checkpoints, and on average for work
 * that a failure makes it repeat. */
double auto_loss(const struct auto_cost *c, int64_t mtbf, int64_t interval);

/* True if an interval that is in use is to be replaced: it differs from the better one by more than a tenth. */
bool auto_differs(int64_t used, int64_t better);

#endif
