/* slurm/option.c: what of the options of sbatch goes through the job's environment. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "slurm/option.h"

#define UUID "0b0e8c4e-96ce-4a4c-8f0d-5a1f2c3d4e5f"

static void what_was_written_is_read_again(void **state)
{
	for (int limit = OPTION_LIMIT_NONE; limit <= OPTION_LIMIT_CONTINUE; limit++)
		for (int tcp = OPTION_TCP_NONE; tcp <= OPTION_TCP_CLOSE; tcp++)
			for (int bits = 0; bits < 12; bits++) {
				struct option_value v = { .interval_text = "30:00",
							  .uuid = UUID,
							  .truncate = bits & 1,
							  .at_limit = (enum option_limit)limit,
							  .tcp = (enum option_tcp)tcp,
							  .on_requeue = (enum option_requeue)(bits / 4) },
						    again;
				char buf[OPTION_MAX];

				v.total = limit == OPTION_LIMIT_CONTINUE && bits & 2 ? 864000 : 0;
				assert_int_equal(option_parse(option_format(&v, buf, sizeof(buf)), &again, NULL), 0);
				assert_int_equal(again.interval, 1800);
				assert_int_equal(again.at_limit, v.at_limit);
				assert_int_equal(again.total, v.total);
				assert_int_equal(again.tcp, v.tcp);
				assert_int_equal(again.on_requeue, v.on_requeue);
				assert_int_equal(again.truncate, v.truncate);
			}
}

static void malformed(void **state)
{
	static const char *const texts[] = { "30/" UUID "/tx",   "30/" UUID "/tl5",
					     "30/" UUID "/tn5x", "30/" UUID "/",
					     "30/" UUID "/tnl",  "30/" UUID "/tub",
					     "30/" UUID "/tbc",  "30/" UUID "/tn99999999999999999999" };
	struct option_value v;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(option_parse(texts[i], &v, NULL), -1);
}

static void on_requeue(void **state)
{
	static const char *const bad[] = { "", "(null)", "x", "Resume", "resume ", "continue" };
	enum option_requeue r;

	assert_int_equal(option_requeue_parse("resume", &r), 0);
	assert_int_equal(r, OPTION_REQUEUE_RESUME);
	assert_int_equal(option_requeue_parse("restart", &r), 0);
	assert_int_equal(r, OPTION_REQUEUE_RESTART);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(option_requeue_parse(bad[i], &r), -1);
	assert_string_equal(option_requeue_in_env(OPTION_REQUEUE_ENV "=resume"), "resume");
	assert_string_equal(option_requeue_in_env(OPTION_REQUEUE_ENV_JOB "=x"), "x");
	assert_null(option_requeue_in_env(OPTION_TCP_ENV "=close"));
}

static void signals(void **state)
{
	static const char *const bad[] = { "",
					   "USR1",
					   "USR1@",
					   "USR1@0",
					   "USR1@3601",
					   "KILL@5",
					   "9@5",
					   "65@5",
					   "B:@5",
					   "X:10@5",
					   "usr1@5",
					   "USR1@5x",
					   "@5",
					   "USR1@-5",
					   "0@5",
					   "SIG@5",
					   "USR@5",
					   "USR1 @5",
					   "10@99999999999999999999999" };
	struct option_signal s;

	assert_int_equal(option_signal_parse("USR1@30", &s, NULL), 0);
	assert_true(s.number == SIGUSR1 && !s.script_only && s.seconds == 30);
	assert_int_equal(option_signal_parse("B:SIGTERM@3600", &s, NULL), 0);
	assert_true(s.number == SIGTERM && s.script_only && s.seconds == 3600);
	assert_int_equal(option_signal_parse("12@1", &s, NULL), 0);
	assert_true(s.number == 12 && s.seconds == 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(option_signal_parse(bad[i], &s, NULL), -1);
}

static void at_limit(void **state)
{
	static const struct {
		const char *value;
		enum option_limit limit;
		int64_t total;
	} good[] = { { "", OPTION_LIMIT_HOLD, 0 },
		     { "(null)", OPTION_LIMIT_HOLD, 0 },
		     { "hold", OPTION_LIMIT_HOLD, 0 },
		     { "continue", OPTION_LIMIT_CONTINUE, 0 },
		     { "continue:UNLIMITED", OPTION_LIMIT_CONTINUE, 0 },
		     { "continue:10-0", OPTION_LIMIT_CONTINUE, 864000 },
		     { "continue:90", OPTION_LIMIT_CONTINUE, 5400 } };
	static const char *const bad[] = { "x", "continue:", "continue:0", "continue:-5", "hold:5", "continue 5", "Hold" };
	struct option_value v;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(option_limit_parse(good[i].value, &v, &err), 0);
		assert_int_equal(v.at_limit, good[i].limit);
		assert_int_equal(v.total, good[i].total);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(option_limit_parse(bad[i], &v, &err), -1);
	assert_string_equal(option_limit_in_env(OPTION_LIMIT_ENV "=continue:5"), "continue:5");
	assert_string_equal(option_limit_in_env(OPTION_LIMIT_ENV_JOB "="), "");
	assert_null(option_limit_in_env(OPTION_LIMIT_ENV "X=5"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read_again),
		cmocka_unit_test(malformed),
		cmocka_unit_test(at_limit),
		cmocka_unit_test(on_requeue),
		cmocka_unit_test(signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
