/* policy/auto_interval.h */
#include "unit.h"

#include <math.h>
#include <string.h>

#include "base/util.h"
#include "policy/auto_interval.h"

#define YEAR (INT64_C(365) * 86400)

static const struct auto_bounds wide = { .mtbf = YEAR, .min = 1, .max = 100 * YEAR };

static void epoch(struct job_history *h, const char *trigger, int64_t frozen_ms, int64_t total_ms)
{
	struct history_event e = {
		.time = 1000 + h->n, .kind = HISTORY_EPOCH, .frozen_us = frozen_ms * 1000, .total_us = total_ms * 1000
	};

	strcpy(e.trigger, trigger);
	history_add(h, &e);
}

static void costs_are_those_of_the_last_that_ran_on(void **state)
{
	struct job_history *h = xcalloc(1, sizeof(*h));
	struct auto_cost c;

	auto_cost_of(h, &c);
	assert_int_equal(c.samples, 0);
	epoch(h, "vacate", 9000, 9000);
	auto_cost_of(h, &c);
	assert_int_equal(c.samples, 0);
	epoch(h, "periodic", 90000, 90000);
	for (int i = 0; i < 4; i++)
		epoch(h, "periodic", 100, 1100);
	epoch(h, "preempt", 9000, 9000);
	epoch(h, "create", 600, 1600);
	auto_cost_of(h, &c);
	assert_int_equal(c.samples, AUTO_SAMPLES);
	assert_int_equal(c.frozen_us, 200000);
	assert_int_equal(c.total_us, 1200000);
	assert_int_equal(c.cost_us, 300000); /* and a tenth of the second in which it was written */
	epoch(h, "periodic", 100, 0);        /* a record of an old version */
	auto_cost_of(h, &c);
	assert_true(c.cost_us >= c.frozen_us);
	free(h);
}

static int64_t advised(int64_t frozen_us, int64_t total_us, const struct auto_bounds *b, enum auto_bound bound)
{
	const struct auto_cost c = { .samples = 1,
				     .frozen_us = frozen_us,
				     .total_us = total_us,
				     .cost_us = frozen_us + (total_us - frozen_us) / 10 };
	struct auto_advice a;

	auto_advise(&c, b, &a);
	assert_int_equal(a.bound, bound);
	return a.interval;
}

/* Daly's own figures, from the text of the formula with a calculator. */
static void the_formula(void **state)
{
	const struct auto_bounds day = { .mtbf = 86400, .min = 1, .max = YEAR };

	/* sqrt(2 * 0.1 * 31536000) = 2511.4 */
	assert_int_equal(advised(100000, 100000, &wide, AUTO_OPTIMUM), 2511);
	/* C = 5 min, M = 1 day: sqrt(51840000) = 7200, C/2M = 0.00173611, 7200 * (1 + 0.0138889 + 0.0001929) = 7301.4
	 */
	assert_int_equal(advised(300000000, 300000000, &day, AUTO_OPTIMUM), 7301);
	/* a checkpoint that takes longer than two failures are apart: M and C */
	assert_int_equal(advised(INT64_C(200000) * 1000000, INT64_C(200000) * 1000000, &day, AUTO_AT_BUSY), 2000000);
}

static void it_is_the_least_loss(void **state)
{
	const struct auto_cost c = { .samples = 1, .cost_us = 700000 };
	struct auto_advice a;

	auto_advise(&c, &wide, &a);
	assert_true(auto_loss(&c, YEAR, a.interval) < auto_loss(&c, YEAR, a.interval * 5 / 4));
	assert_true(auto_loss(&c, YEAR, a.interval) < auto_loss(&c, YEAR, a.interval * 4 / 5));
	/* half of it is checkpoints, half is repeated work */
	assert_true(fabs(0.7 / (double)a.interval - (double)a.interval / 2 / YEAR) < 1e-6);
}

static void bounds(void **state)
{
	const struct auto_bounds b = { .mtbf = YEAR, .min = 60, .max = 4 * 3600 },
				 odd = { .mtbf = YEAR, .min = 900, .max = 300 };
	const struct auto_cost none = { 0 };
	struct auto_advice a;

	assert_int_equal(advised(0, 0, &b, AUTO_AT_MIN), 60);
	assert_int_equal(advised(1, 1, &b, AUTO_AT_MIN), 60);
	assert_int_equal(advised(100000, 100000, &b, AUTO_OPTIMUM), 2511);
	assert_int_equal(advised(60000000, 60000000, &b, AUTO_AT_MAX), 4 * 3600);
	/* little standing still, but the disk has much to do: 10 * 1000 s */
	assert_int_equal(advised(1000, 1000000000, &(struct auto_bounds){ .mtbf = 86400, .min = 60, .max = 86400 },
				 AUTO_AT_BUSY),
			 10000);
	assert_int_equal(advised(1000, 1000000000, &(struct auto_bounds){ .mtbf = 86400, .min = 60, .max = 9000 },
				 AUTO_AT_MAX),
			 9000);
	assert_int_equal(advised(100000, 100000, &odd, AUTO_AT_MIN), 900);
	auto_advise(&none, &b, &a);
	assert_int_equal(a.interval, AUTO_FIRST);
	assert_int_equal(a.optimum, 0);
	assert_int_equal(a.bound, AUTO_UNKNOWN);
	auto_advise(&none, &(struct auto_bounds){ .mtbf = YEAR, .min = 2, .max = 3 }, &a);
	assert_int_equal(a.interval, 3);
	assert_int_equal(a.bound, AUTO_UNKNOWN);
}

static void small_differences_change_nothing(void **state)
{
	assert_false(auto_differs(600, 600));
	assert_false(auto_differs(600, 650));
	assert_true(auto_differs(600, 700));
	assert_true(auto_differs(700, 600));
	assert_true(auto_differs(3, 2));
	assert_string_equal(auto_bound_name(AUTO_OPTIMUM), "");
	assert_string_equal(auto_bound_name(AUTO_AT_MAX), "maximum");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(costs_are_those_of_the_last_that_ran_on),
		cmocka_unit_test(the_formula),
		cmocka_unit_test(it_is_the_least_loss),
		cmocka_unit_test(bounds),
		cmocka_unit_test(small_differences_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
