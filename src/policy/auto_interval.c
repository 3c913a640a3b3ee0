#include "policy/auto_interval.h"

#include <math.h>
#include <string.h>

#define SECOND   1e6
#define SLOWDOWN 10 /* a part of the time in which the job runs while it is written */

void auto_cost_of(const struct job_history *h, struct auto_cost *c)
{
	*c = (struct auto_cost){ 0 };
	for (unsigned i = h->n; i > 0 && c->samples < AUTO_SAMPLES; i--) {
		const struct history_event *e = &h->v[i - 1];

		/* After the others the job leaves its node: the freeze is the whole checkpoint. */
		if (e->kind != HISTORY_EPOCH || (strcmp(e->trigger, "periodic") && strcmp(e->trigger, "create")))
			continue;
		c->frozen_us += e->frozen_us;
		c->total_us += e->total_us;
		c->samples++;
	}
	if (!c->samples)
		return;
	c->frozen_us /= c->samples;
	c->total_us /= c->samples;
	if (c->total_us < c->frozen_us)
		c->total_us = c->frozen_us;
	c->cost_us = c->frozen_us + (c->total_us - c->frozen_us) / SLOWDOWN;
}

/* s. */
static double auto_optimum(double cost, double mtbf)
{
	const double part = cost / (2 * mtbf);

	return part >= 1 ? mtbf : sqrt(2 * cost * mtbf) * (1 + sqrt(part) / 3 + part / 9) - cost;
}

static void auto_bound(struct auto_advice *a, int64_t interval, enum auto_bound bound)
{
	a->interval = interval;
	a->bound = bound;
}

void auto_advise(const struct auto_cost *c, const struct auto_bounds *b, struct auto_advice *a)
{
	const double cost = (double)c->cost_us / SECOND;
	const int64_t busy = AUTO_BUSY * c->total_us / 1000000;

	*a = (struct auto_advice){ .interval = AUTO_FIRST, .bound = AUTO_UNKNOWN };
	if (c->samples) {
		a->optimum = (int64_t)(auto_optimum(cost, (double)b->mtbf) + cost + 0.5);
		a->optimum = a->optimum > 0 ? a->optimum : 1;
		auto_bound(a, a->optimum, AUTO_OPTIMUM);
		if (a->interval < busy)
			auto_bound(a, busy, AUTO_AT_BUSY);
	}
	if (a->interval > b->max)
		auto_bound(a, b->max, c->samples ? AUTO_AT_MAX : AUTO_UNKNOWN);
	if (a->interval < b->min)
		auto_bound(a, b->min, c->samples ? AUTO_AT_MIN : AUTO_UNKNOWN);
}

double auto_loss(const struct auto_cost *c, int64_t mtbf, int64_t interval)
{
	return (double)c->cost_us / SECOND / (double)interval + (double)interval / 2 / (double)mtbf;
}

bool auto_differs(int64_t used, int64_t better)
{
	const int64_t by = used > better ? used - better : better - used;

	return by > 0 && by >= better / 10;
}

const char *auto_bound_name(enum auto_bound b)
{
	static const char *const names[] = {
		[AUTO_OPTIMUM] = "",       [AUTO_UNKNOWN] = "first",  [AUTO_AT_BUSY] = "busy",
		[AUTO_AT_MIN] = "minimum", [AUTO_AT_MAX] = "maximum",
	};

	return names[b];
}
