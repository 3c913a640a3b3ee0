#include "unit.h"

#include <signal.h>
#include <string.h>

#include "base/util.h"
#include "policy/recovery.h"

static const unsigned three[] = { 4, 5, 7 };

enum epochs { NO_EPOCHS, EPOCHS };
enum asked { NOT_ASKED, ASKED, ASKED_LATEST, ASKED_MISSING, ASKED_BEGINNING };

/* What must come out, said a second time and without a table. */
static enum start_action expected(bool record, enum intent intent, unsigned restarts, enum epochs epochs,
				  enum asked asked, bool saved, bool told, enum ended ended, bool unusable, bool hold,
				  unsigned *n, enum start_action *otherwise)
{
	*n = 0;
	*otherwise = START_HOLD;
	if (unusable && !record && restarts > 0)
		return START_ELSEWHERE;
	if (unusable && (record || asked != NOT_ASKED))
		return START_HOLD;
	if (asked == ASKED_BEGINNING) {
		*otherwise = START_FRESH;
		return START_FRESH;
	}
	if (asked != NOT_ASKED) {
		if (!record)
			return START_ELSEWHERE;
		if (epochs == NO_EPOCHS || asked == ASKED_MISSING)
			return START_HOLD;
		*n = 1;
		return START_RESTORE;
	}
	if (record && (intent == INTENT_VACATED || intent == INTENT_VACATING)) {
		*n = epochs == EPOCHS;
		return epochs == EPOCHS ? START_RESTORE : START_HOLD;
	}
	*otherwise = hold ? START_HOLD : START_FRESH;
	if (!record && restarts > 0 && saved)
		return START_ELSEWHERE;
	if (record && intent == INTENT_RUNNING && restarts > 0 && epochs == EPOCHS) {
		*n = 3;
		return START_RESTORE;
	}
	if (record && intent == INTENT_DONE && restarts > 0 && !told && ended == ENDED_KILLED && epochs == EPOCHS) {
		*n = 3;
		return START_RESTORE;
	}
	if (record && intent == INTENT_DONE && restarts > 0 && !told && ended == ENDED_ITSELF) {
		*otherwise = START_HOLD;
		return START_END;
	}
	*otherwise = START_FRESH;
	return START_FRESH;
}

static void every_start(void **state)
{
	static struct start_plan plan;
	int cases = 0;

	for (int record = 0; record < 2; record++)
		for (enum intent intent = INTENT_RUNNING; intent <= INTENT_DONE; intent++)
			for (unsigned restarts = 0; restarts < 3; restarts++)
				for (enum epochs epochs = NO_EPOCHS; epochs <= EPOCHS; epochs++)
					for (enum asked asked = NOT_ASKED; asked <= ASKED_BEGINNING; asked++)
						for (int saved = 0; saved < 2; saved++)
							for (int told = 0; told < 2; told++)
								for (enum ended ended = ENDED_UNKNOWN;
								     ended <= ENDED_KILLED; ended++)
									for (int unusable = 0; unusable < 2; unusable++)
										for (int hold = 0; hold < 2; hold++) {
											struct start_input in = {
												.have_record = record,
												.intent = intent,
												.restart_count = restarts,
												.saved = saved,
												.told = told,
												.ended = ended,
												.unusable = unusable,
												.hold_on_failure = hold,
												.epochs = three,
												.n_epochs = epochs == EPOCHS
														    ? 3
														    : 0,
												.requested =
													asked == ASKED ? 5
													: asked == ASKED_LATEST
														? START_LATEST
													: asked == ASKED_MISSING
														? 6
													: asked == ASKED_BEGINNING
														? START_BEGINNING
														: 0,
											};
											enum start_action otherwise,
												action;
											unsigned n;

											memset(&plan, 0x5a, sizeof(plan));
											start_decide(&in, &plan);
											action = expected(
												record, intent, restarts,
												epochs, asked, saved,
												told, ended, unusable,
												hold, &n, &otherwise);
											if (plan.action != action ||
											    plan.n_epochs != n ||
											    plan.otherwise != otherwise)
												fail_msg("record %d intent %d restarts %u epochs %d asked %d saved %d told %d ended %d unusable %d hold %d: action %d, %u epochs, else %d: %s",
													 record, intent,
													 restarts, epochs,
													 asked, saved,
													 told, ended,
													 unusable, hold,
													 plan.action,
													 plan.n_epochs,
													 plan.otherwise,
													 plan.reason);
											assert_true(strlen(plan.reason) >
												    10);
											cases++;
										}
	assert_int_equal(cases, 2 * 5 * 3 * 2 * 5 * 2 * 2 * 3 * 2 * 2);
}

static void every_failure(void **state)
{
	for (enum failure_cause cause = FAILED_EPOCH; cause <= FAILED_NODE; cause++)
		for (int time = 0; time < 2; time++)
			for (int more = 0; more < 2; more++)
				for (int move = 0; move < 2; move++)
					for (int hold = 0; hold < 2; hold++) {
						const struct failure_input in = {
							.cause = cause,
							.time_left = time,
							.more_epochs = more,
							.may_move = move,
							.otherwise = hold ? START_HOLD : START_FRESH,
						};
						enum failure_step want = hold || cause == FAILED_JOB ? FAILURE_HOLD
												     : FAILURE_FRESH;

						if (more)
							want = FAILURE_NEXT_EPOCH;
						if (cause == FAILED_NODE && move)
							want = FAILURE_ELSEWHERE;
						if (cause == FAILED_GIVEN)
							want = FAILURE_HOLD;
						if (cause == FAILED_PASSES)
							want = time   ? FAILURE_AGAIN
							       : move ? FAILURE_ELSEWHERE
								      : FAILURE_HOLD;
						assert_int_equal(failure_decide(&in), want);
					}
	for (unsigned tries = 0; tries < 40; tries++)
		assert_true(failure_pause(tries) >= 5 && failure_pause(tries) <= 30 &&
			    failure_pause(tries + 1) >= failure_pause(tries));
}

/* A job that slurmctld shows in whatever way: what must never be said of it. */
static void every_end(void **state)
{
	for (unsigned bits = 0; bits < 1024; bits++) {
		const struct end_input in = {
			.known = bits & 1,
			.pending = bits & 2,
			.completing = bits & 4,
			.running = bits & 8,
			.finished = bits & 16,
			.preempted = bits & 32,
			.newer = bits & 64,
			.beyond = bits & 128,
			.by_itself = bits & 256,
			.resumes = bits & 512,
		};
		const bool person = in.completing && !in.preempted && !in.beyond;
		enum end_meaning m = end_decide(&in);

		if (!in.known)
			assert_int_equal(m, END_UNKNOWN);
		else if (in.pending)
			assert_int_equal(m, in.by_itself || (person && !in.resumes) ? END_START_OVER : END_CONTINUE);
		else if (in.newer)
			assert_int_equal(m, END_ELSEWHERE);
		else
			assert_int_equal(m, in.finished && !in.running ? END_OVER : END_NONE);
	}
}

/* The job is saved only where Slurm waits for its end, and only where there is time to let it have its signal if not.
 */
static void every_grace(void **state)
{
	for (enum end_meaning m = END_UNKNOWN; m <= END_ELSEWHERE; m++)
		for (unsigned bits = 0; bits < 8; bits++) {
			const struct grace_input in = {
				.meaning = m,
				.completing = bits & 1,
				.possible = bits & 2,
				.left = bits & 4 ? 5 : 4,
				.need = grace_need(0),
			};

			assert_int_equal(grace_decide(&in), m == END_CONTINUE && bits == 7 ? GRACE_SAVE : GRACE_PASS_ON);
		}
	assert_true(grace_need(10000000) >= 12 && grace_need(1) == 2);
}

/* What the record must say of a job, by what is known of its end. */
static void every_record(void **state)
{
	for (int ended = 0; ended < 2; ended++)
		for (int itself = 0; itself < 2; itself++)
			for (enum end_meaning m = END_UNKNOWN; m <= END_ELSEWHERE; m++) {
				const struct record_input in = { .ended = ended, .itself = itself, .meaning = m };
				enum record_change want = RECORD_KEEP;

				if (ended && (m == END_NONE || (itself && (m == END_UNKNOWN || m == END_CONTINUE))))
					want = RECORD_ENDED;
				if (m == END_OVER)
					want = RECORD_OVER;
				if (m == END_START_OVER)
					want = RECORD_REQUEUED;
				if (record_decide(&in) != want)
					fail_msg("ended %d itself %d meaning %d: %d", ended, itself, m,
						 record_decide(&in));
			}
}

static void how_a_script_ended(void **state)
{
	assert_int_equal(ended_how(-1), ENDED_UNKNOWN);
	for (int status = 0; status < 256; status++)
		assert_int_equal(ended_how(status << 8),
				 status == 128 + SIGTERM || status == 128 + SIGKILL ? ENDED_KILLED : ENDED_ITSELF);
	for (int sig = 1; sig < 64; sig++)
		assert_int_equal(ended_how(sig), sig == SIGTERM || sig == SIGKILL ? ENDED_KILLED : ENDED_ITSELF);
}

static void every_lease(void **state)
{
	for (unsigned bits = 0; bits < 256; bits++) {
		const struct lease_input in = {
			.exists = bits & 1,
			.released = bits & 2,
			.newer = bits & 4,
			.same_host = bits & 8,
			.same_boot = bits & 16,
			.alive = bits & 32,
			.expired = bits & 64,
		};
		bool dead = in.same_host && !(in.same_boot && in.alive);
		enum lease_verdict want = LEASE_WAIT;

		if (!in.exists || in.released || in.expired || dead)
			want = LEASE_TAKE;
		if (in.exists && in.newer)
			want = LEASE_STAND_DOWN;
		assert_int_equal(lease_decide(&in), want);
	}
	for (unsigned s = 1; s < 100; s++)
		assert_true(lease_margin(s) >= 2 && lease_margin(s) * 4 + 4 > s);
}

static void every_notice(void **state)
{
	for (unsigned bits = 0; bits < 16; bits++)
		for (int n = 0; n < 13 * 3 * 3; n++) {
			const struct notice_input in = {
				.preempted = bits & 1,
				.served = bits & 2,
				.left_total = bits & 4 ? 19 : INT64_MAX,
				.ran = bits & 8 ? 9 : 10,
				.at_limit = (enum at_limit)(n % 3),
				.left = n / 3 % 13 * 5 - 5,
				.lead = notice_lead(0),
			};
			const bool near = in.left <= in.lead, goes_on = in.at_limit == AT_LIMIT_CONTINUE;
			enum notice_action want = NOTICE_NONE;

			if (in.served)
				want = NOTICE_NONE;
			else if (in.preempted)
				want = NOTICE_SAVE_AND_REQUEUE;
			else if (in.at_limit == AT_LIMIT_HOLD && near)
				want = NOTICE_VACATE;
			else if (goes_on && bits & 4)
				want = NOTICE_VACATE_USED_UP;
			else if (goes_on && near)
				want = bits & 8 ? NOTICE_VACATE_NO_PROGRESS : NOTICE_CONTINUE;
			assert_int_equal(notice_decide(&in), want);
		}
	assert_true(notice_lead(60000000) > 120 && notice_lead(INT64_MAX / 4) <= 1800);
}

static void order_of_the_candidates(void **state)
{
	static struct start_plan plan;
	struct start_input in = {
		.have_record = true,
		.intent = INTENT_RUNNING,
		.restart_count = 1,
		.epochs = three,
		.n_epochs = 3,
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
		.have_record = true,
		.intent = INTENT_RUNNING,
		.restart_count = 1,
		.epochs = epochs,
		.n_epochs = ARRAY_SIZE(epochs),
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
	struct start_input in = {
		.have_record = true, .intent = (enum intent)25, .restart_count = 1, .epochs = three, .n_epochs = 3
	};

	start_decide(&in, &plan);
	assert_int_equal(plan.action, START_HOLD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_start),
		cmocka_unit_test(every_failure),
		cmocka_unit_test(every_end),
		cmocka_unit_test(every_grace),
		cmocka_unit_test(every_record),
		cmocka_unit_test(how_a_script_ended),
		cmocka_unit_test(every_lease),
		cmocka_unit_test(every_notice),
		cmocka_unit_test(order_of_the_candidates),
		cmocka_unit_test(as_many_as_can_be_kept),
		cmocka_unit_test(an_intent_that_is_not_known_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
