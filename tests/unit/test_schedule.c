#include "unit.h"

#include "policy/retention.h"
#include "policy/schedule.h"
#include "policy/obstacle.h"

#define S   ((int64_t)1000000)
#define MIN (60 * S)

static struct schedule s;

/* Starts at 1000 s with 30 minutes and a jitter of 10 s: due at 1000 s + 10 s + n * 30 min. */
static int64_t due(int n)
{
	return 1010 * S + n * 30 * MIN;
}

static int begin(void **state)
{
	schedule_init(&s, 1000 * S, 30 * MIN, 10 * S, 3, 0);
	return 0;
}

static void on_the_grid(void **state)
{
	for (int n = 1; n < 100; n++) {
		assert_int_equal(schedule_wake_at(&s), due(n));
		assert_false(schedule_is_due(&s, due(n) - 1));
		assert_true(schedule_is_due(&s, due(n)));
		assert_false(schedule_must(&s, due(n)));
		assert_int_equal(schedule_begun(&s, due(n) + 3), 0);
		schedule_finished(&s, due(n) + 20 * S, false);
	}
	assert_int_equal(s.skipped, 0);
}

static void the_interval_changes(void **state)
{
	schedule_begun(&s, due(1));
	schedule_finished(&s, due(1) + S, false);
	schedule_change(&s, due(1) + S, 5 * MIN);
	assert_int_equal(schedule_wake_at(&s), due(1) + S + 5 * MIN);
	schedule_begun(&s, due(1) + S + 5 * MIN);
	schedule_finished(&s, due(1) + 6 * MIN, false);
	assert_int_equal(schedule_wake_at(&s), due(1) + S + 10 * MIN);
	/* while the gate refuses, too */
	schedule_refused(&s, due(1) + S + 10 * MIN);
	schedule_change(&s, due(1) + 12 * MIN, 60 * MIN);
	assert_int_equal(schedule_wake_at(&s), due(1) + 72 * MIN);
	assert_false(schedule_must(&s, due(1) + 71 * MIN));
}

static void a_late_one_is_not_doubled(void **state)
{
	assert_int_equal(schedule_begun(&s, due(1)), 0);
	schedule_finished(&s, due(4) + 1, false);
	assert_int_equal(schedule_wake_at(&s), due(5));
	/* Ended exactly at a due time: that one is dropped too. */
	schedule_begun(&s, due(5));
	schedule_finished(&s, due(6), false);
	assert_int_equal(schedule_wake_at(&s), due(7));
	/* The agent itself stood still. */
	assert_true(schedule_is_due(&s, due(20)));
	assert_int_equal(schedule_begun(&s, due(20) + 5), 0);
	schedule_finished(&s, due(20) + 6, false);
	assert_int_equal(schedule_wake_at(&s), due(21));
	assert_int_equal(s.skipped, 0);
}

static void one_on_request_does_not_move_the_grid(void **state)
{
	assert_int_equal(schedule_begun(&s, 1001 * S), 0);
	schedule_finished(&s, 1002 * S, false);
	assert_int_equal(schedule_wake_at(&s), due(1));
	schedule_begun(&s, due(1) - 5 * S);
	schedule_finished(&s, due(1) + 5 * S, false);
	assert_int_equal(schedule_wake_at(&s), due(2));
}

static void what_passes_is_tried_again_soon(void **state)
{
	int64_t now = due(1), pause = 2 * S;

	for (;; pause *= 2) {
		schedule_begun(&s, now);
		schedule_finished(&s, now + S, true);
		if (now + S + pause >= due(2))
			break;
		assert_int_equal(schedule_wake_at(&s), now + S + pause);
		now = schedule_wake_at(&s);
		assert_true(schedule_is_due(&s, now));
	}
	assert_true(pause > 64 * S);
	assert_int_equal(schedule_wake_at(&s), due(2));
	/* one that stays waits for the grid, and so does what comes after a success; then it begins with short pauses
	 * anew */
	schedule_begun(&s, due(2));
	schedule_finished(&s, due(2) + S, false);
	assert_int_equal(schedule_wake_at(&s), due(3));
	schedule_begun(&s, due(3));
	schedule_finished(&s, due(3) + S, true);
	assert_int_equal(schedule_wake_at(&s), due(3) + 3 * S);
	/* a busy node is asked first, as ever */
	assert_int_equal(schedule_refused(&s, due(3) + 3 * S), 0);
	assert_int_equal(schedule_wake_at(&s), due(3) + 3 * S + MIN);
	assert_int_equal(s.skipped, 0);
}

static void which_failures_pass(void **state)
{
	assert_true(obstacle_retry_checkpoint("criu: In-flight connection (l) for 1f3"));
	assert_true(obstacle_retry_checkpoint("criu: Can't open /proc/12/maps: No such process"));
	assert_true(obstacle_retry_checkpoint("criu: Unable to freeze cgroup /x (100 x 100ms attempts, timeout: 10s)"));
	assert_false(obstacle_retry_checkpoint("a process of the job uses io_uring, which cannot be checkpointed"));
	assert_false(obstacle_retry_checkpoint(
		"the disk of the checkpoint directory is full (criu: No space left on device)"));
	assert_false(obstacle_retry_checkpoint(""));
}

static void refused_and_soon_allowed(void **state)
{
	assert_int_equal(schedule_refused(&s, due(1)), 0);
	assert_int_equal(schedule_wake_at(&s), due(1) + MIN);
	assert_false(schedule_is_due(&s, due(1) + MIN - 1));
	assert_int_equal(schedule_refused(&s, due(1) + MIN), 0);
	assert_int_equal(schedule_wake_at(&s), due(1) + 2 * MIN);
	assert_int_equal(schedule_begun(&s, due(1) + 2 * MIN), 0);
	/* It takes longer than the interval: not a matter of load. */
	schedule_finished(&s, due(2) + MIN, false);
	assert_int_equal(s.skipped, 0);
	assert_int_equal(schedule_wake_at(&s), due(3));
}

static void refused_until_it_must(void **state)
{
	int64_t now = due(1);
	unsigned counted = 0;

	while (!schedule_must(&s, now)) {
		assert_true(schedule_is_due(&s, now));
		counted += schedule_refused(&s, now);
		assert_in_range(schedule_wake_at(&s) - now, 1, MIN);
		now = schedule_wake_at(&s) + (schedule_wake_at(&s) < due(3) ? 700000 : 0);
	}
	assert_int_equal(now, due(4));
	assert_int_equal(counted, 2);
	assert_int_equal(schedule_begun(&s, now), 1);
	assert_int_equal(s.skipped, 3);
	schedule_finished(&s, now + S, false);
	assert_int_equal(schedule_wake_at(&s), due(5));
	assert_false(schedule_must(&s, due(5)));
}

static void skipped_ones_are_counted_exactly(void **state)
{
	assert_int_equal(schedule_refused(&s, due(1)), 0);
	assert_int_equal(schedule_refused(&s, due(2) - 1), 0);
	assert_int_equal(schedule_refused(&s, due(2)), 1);
	assert_int_equal(schedule_refused(&s, due(2) + 1), 0);
	assert_int_equal(schedule_begun(&s, due(3) + MIN), 1);
	schedule_finished(&s, due(3) + 2 * MIN, false);
	assert_int_equal(s.skipped, 2);
	assert_int_equal(schedule_refused(&s, due(4)), 0);
	/* One on request ends the waiting too. */
	assert_int_equal(schedule_begun(&s, due(5)), 1);
	schedule_finished(&s, due(5) + S, false);
	assert_int_equal(s.skipped, 3);
	assert_int_equal(schedule_wake_at(&s), due(6));
}

static void late_for_another_reason_is_not_skipped(void **state)
{
	assert_int_equal(schedule_refused(&s, due(5) + MIN), 0);
	assert_int_equal(s.due, due(5));
	assert_int_equal(schedule_refused(&s, due(6)), 1);
	assert_false(schedule_must(&s, due(8) - 1));
	assert_true(schedule_must(&s, due(8)));
	assert_int_equal(s.skipped, 1);
}

static void goes_on_counting(void **state)
{
	schedule_init(&s, 1000 * S, 30 * MIN, 10 * S, 3, 7);
	schedule_refused(&s, due(1));
	assert_int_equal(schedule_refused(&s, due(2)), 1);
	assert_int_equal(s.skipped, 8);
}

static void without_skipping_the_gate_has_no_say(void **state)
{
	schedule_init(&s, 0, 30 * MIN, 0, 0, 0);
	assert_true(schedule_must(&s, 30 * MIN));
}

static void short_and_long_intervals(void **state)
{
	schedule_init(&s, 0, S, 0, 3, 0);
	assert_int_equal(schedule_refused(&s, S), 0);
	/* The 5 s of the pause do not reach beyond the one that must be. */
	assert_int_equal(schedule_wake_at(&s), 4 * S);
	schedule_init(&s, 0, 5 * MIN, 0, 3, 0);
	schedule_refused(&s, 5 * MIN);
	assert_int_equal(schedule_wake_at(&s), 5 * MIN + 15 * S);
	schedule_init(&s, 0, 3660LL * 86400 * S, 60 * S, 1000, 0);
	assert_int_equal(schedule_wake_at(&s), 3660LL * 86400 * S + 60 * S);
	schedule_refused(&s, schedule_wake_at(&s));
	assert_false(schedule_must(&s, schedule_wake_at(&s)));
}

static void on_request_only(void **state)
{
	schedule_init(&s, 1000, 0, 0, 3, 0);
	assert_true(schedule_wake_at(&s) == SCHEDULE_NEVER);
	assert_false(schedule_is_due(&s, INT64_MAX));
	assert_false(schedule_must(&s, INT64_MAX));
	assert_int_equal(schedule_begun(&s, 2000), 0);
	schedule_finished(&s, 3000, false);
	assert_int_equal(schedule_refused(&s, 3000), 0);
	assert_true(schedule_wake_at(&s) == SCHEDULE_NEVER);
}

static void jitter(void **state)
{
	assert_int_equal(schedule_jitter(30 * MIN, 0), 0);
	assert_int_equal(schedule_jitter(30 * MIN, UINT32_MAX), 60 * S);
	assert_int_equal(schedule_jitter(100 * S, UINT32_MAX), 5 * S);
	assert_in_range(schedule_jitter(100 * S, UINT32_MAX / 2), 2499990, 2500010);
	assert_int_equal(schedule_jitter(0, UINT32_MAX), 0);
	assert_int_equal(schedule_jitter(1, UINT32_MAX), 0);
}

static void retention(void **state)
{
	static const unsigned epochs[] = { 1, 2, 5, 6, 9 };
	unsigned gone[5];

	assert_int_equal(retention_select(epochs, 5, 5, 9, gone), 0);
	assert_int_equal(retention_select(epochs, 5, 1000, 9, gone), 0);
	assert_int_equal(retention_select(epochs, 0, 1, 9, gone), 0);
	assert_int_equal(retention_select(epochs, 5, 1, 9, gone), 4);
	assert_memory_equal(gone, epochs, 4 * sizeof(*gone));
	assert_int_equal(retention_select(epochs, 5, 3, 9, gone), 2);
	assert_memory_equal(gone, epochs, 2 * sizeof(*gone));
	/* The new one stays whatever its number. */
	assert_int_equal(retention_select(epochs, 5, 2, 2, gone), 3);
	assert_int_equal(gone[0], 1);
	assert_int_equal(gone[1], 5);
	assert_int_equal(gone[2], 6);
	assert_int_equal(retention_select(epochs, 5, 1, 1, gone), 4);
	assert_int_equal(gone[0], 2);
	/* Never nothing at all. */
	assert_int_equal(retention_select(epochs, 5, 0, 0, gone), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(on_the_grid, begin),
		cmocka_unit_test_setup(the_interval_changes, begin),
		cmocka_unit_test_setup(a_late_one_is_not_doubled, begin),
		cmocka_unit_test_setup(one_on_request_does_not_move_the_grid, begin),
		cmocka_unit_test_setup(refused_and_soon_allowed, begin),
		cmocka_unit_test_setup(what_passes_is_tried_again_soon, begin),
		cmocka_unit_test(which_failures_pass),
		cmocka_unit_test_setup(refused_until_it_must, begin),
		cmocka_unit_test_setup(skipped_ones_are_counted_exactly, begin),
		cmocka_unit_test_setup(late_for_another_reason_is_not_skipped, begin),
		cmocka_unit_test_setup(goes_on_counting, begin),
		cmocka_unit_test(without_skipping_the_gate_has_no_say),
		cmocka_unit_test(short_and_long_intervals),
		cmocka_unit_test(on_request_only),
		cmocka_unit_test(jitter),
		cmocka_unit_test(retention),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
