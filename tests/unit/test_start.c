#include "unit.h"

#include <string.h>

#include "common/util.h"
#include "policy/start.h"

static const unsigned three[] = { 4, 5, 7 };

enum epochs { NO_EPOCHS, EPOCHS };
enum asked { NOT_ASKED, ASKED, ASKED_LATEST, ASKED_MISSING };

/* What must come out, said a second time and without a table. */
static enum start_action expected(bool record, enum intent intent, unsigned restarts, enum epochs epochs,
				  enum asked asked, unsigned *n, enum start_action *otherwise)
{
	*n = 0;
	*otherwise = START_HOLD;
	if (asked != NOT_ASKED) {
		if (!record || epochs == NO_EPOCHS || asked == ASKED_MISSING)
			return START_HOLD;
		*n = 1;
		return START_RESTORE;
	}
	if (record && (intent == INTENT_VACATED || intent == INTENT_VACATING)) {
		*n = epochs == EPOCHS;
		return epochs == EPOCHS ? START_RESTORE : START_HOLD;
	}
	*otherwise = START_FRESH;
	if (record && intent == INTENT_RUNNING && restarts > 0 && epochs == EPOCHS) {
		*n = 3;
		return START_RESTORE;
	}
	return START_FRESH;
}

static void every_combination(void **state)
{
	static struct start_plan plan;
	int cases = 0;

	for (int record = 0; record < 2; record++)
	for (enum intent intent = INTENT_RUNNING; intent <= INTENT_DONE; intent++)
	for (unsigned restarts = 0; restarts < 3; restarts++)
	for (enum epochs epochs = NO_EPOCHS; epochs <= EPOCHS; epochs++)
	for (enum asked asked = NOT_ASKED; asked <= ASKED_MISSING; asked++) {
		struct start_input in = {
			.have_record = record, .intent = intent, .restart_count = restarts,
			.epochs = three, .n_epochs = epochs == EPOCHS ? 3 : 0,
			.requested = asked == ASKED ? 5 : asked == ASKED_LATEST ? START_LATEST : asked == ASKED_MISSING ? 6 : 0,
		};
		enum start_action otherwise, action;
		unsigned n;

		memset(&plan, 0x5a, sizeof(plan));
		start_decide(&in, &plan);
		action = expected(record, intent, restarts, epochs, asked, &n, &otherwise);
		if (plan.action != action || plan.n_epochs != n || plan.otherwise != otherwise)
			fail_msg("record %d intent %d restarts %u epochs %d asked %d: action %d, %u epochs, else %d: %s",
				 record, intent, restarts, epochs, asked, plan.action, plan.n_epochs, plan.otherwise, plan.reason);
		assert_int_equal(plan.new_run, action == START_FRESH && record);
		assert_true(strlen(plan.reason) > 10);
		cases++;
	}
	assert_int_equal(cases, 2 * 5 * 3 * 2 * 4);
}

static void order_of_the_candidates(void **state)
{
	static struct start_plan plan;
	struct start_input in = {
		.have_record = true, .intent = INTENT_RUNNING, .restart_count = 1, .epochs = three, .n_epochs = 3,
	};

	start_decide(&in, &plan);
	assert_int_equal(plan.epochs[0], 7);
	assert_int_equal(plan.epochs[1], 5);
	assert_int_equal(plan.epochs[2], 4);
	in.intent = INTENT_VACATED;
	start_decide(&in, &plan);
	assert_int_equal(plan.n_epochs, 1);
	assert_int_equal(plan.epochs[0], 7);
	in.requested = START_LATEST;
	start_decide(&in, &plan);
	assert_int_equal(plan.n_epochs, 1);
	assert_int_equal(plan.epochs[0], 7);
	in.requested = 4;
	start_decide(&in, &plan);
	assert_int_equal(plan.n_epochs, 1);
	assert_int_equal(plan.epochs[0], 4);
	in.requested = 6;
	start_decide(&in, &plan);
	assert_int_equal(plan.action, START_HOLD);
	assert_string_equal(plan.reason, "the epoch that was asked for is not there (epoch 6)");
}

static void as_many_as_can_be_kept(void **state)
{
	static unsigned epochs[STORE_KEPT_MAX + 5];
	static struct start_plan plan;
	struct start_input in = {
		.have_record = true, .intent = INTENT_RUNNING, .restart_count = 1, .epochs = epochs, .n_epochs = ARRAY_SIZE(epochs),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(epochs); i++)
		epochs[i] = i + 1;
	start_decide(&in, &plan);
	assert_int_equal(plan.n_epochs, STORE_KEPT_MAX);
	assert_int_equal(plan.epochs[0], STORE_KEPT_MAX + 5);
	assert_int_equal(plan.epochs[STORE_KEPT_MAX - 1], 6);
}

static void an_intent_that_is_not_known_is_held(void **state)
{
	static struct start_plan plan;
	struct start_input in = { .have_record = true, .intent = (enum intent)25, .restart_count = 1, .epochs = three, .n_epochs = 3 };

	start_decide(&in, &plan);
	assert_int_equal(plan.action, START_HOLD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_combination),
		cmocka_unit_test(order_of_the_candidates),
		cmocka_unit_test(as_many_as_can_be_kept),
		cmocka_unit_test(an_intent_that_is_not_known_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
