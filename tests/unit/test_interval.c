#include "unit.h"

#include <string.h>

#include "base/interval.h"
#include "base/util.h"

static void accepted(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} cases[] = {
		{ "30", 1800 },
		{ "1", 60 },
		{ "030", 1800 },
		{ "30:00", 1800 },
		{ "0:01", 1 },
		{ "90:00", 5400 },
		{ "00:05", 5 },
		{ "2:30:00", 9000 },
		{ "0:0:1", 1 },
		{ "100:00:00", 360000 },
		{ "00:30:00", 1800 },
		{ "1-0", 86400 },
		{ "0-1", 3600 },
		{ "1-23", 86400 + 23 * 3600 },
		{ "1-0:30", 86400 + 1800 },
		{ "0-0:1", 60 },
		{ "1-2:30:00", 86400 + 9000 },
		{ "0-00:00:07", 7 },
		{ "3-23:59:59", 4 * 86400 - 1 },
		{ "3660-0", INTERVAL_MAX },
		{ "UNLIMITED", INTERVAL_ON_REQUEST },
		{ "unlimited", INTERVAL_ON_REQUEST },
		{ "Infinite", INTERVAL_ON_REQUEST },
		{ "INFINITE", INTERVAL_ON_REQUEST },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };
		int64_t seconds = -1;

		if (interval_parse(cases[i].text, &seconds, &err) < 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		if (seconds != cases[i].seconds)
			fail_msg("%s: %lld", cases[i].text, (long long)seconds);
	}
}

static void refused(void **state)
{
	static const char *const cases[] = {
		"",
		"0",
		"00:00",
		"0:00:00",
		"0-0",
		"0-0:0:0",
		"-1",
		"-0",
		"+30",
		" 30",
		"30 ",
		"3 0",
		"\t30",
		"30\n",
		"abc",
		"30m",
		"1h",
		"0x10",
		"1e3",
		"1.5",
		"30,5",
		":",
		":30",
		"30:",
		"1::2",
		"1:2:",
		":1:2",
		"1:2:3:4",
		"-",
		"1-",
		"-1-2",
		"1-2-3",
		"1-:30",
		"1-2:",
		"1:2-3",
		"1-2:3:4:5",
		"1-2:3:4-",
		"--1",
		"1:60",
		"1:61:00",
		"1:00:60",
		"1-24",
		"1-24:00",
		"1-0:60",
		"1-0:00:60",
		"1-99:00:00",
		"3660-1",
		"5270401",
		"99999999999999999999",
		"99999999999999999999:00",
		"18446744073709551617",
		"1:99999999999999999999",
		"UNLIMITED ",
		"INFINITY",
		"unlimite",
		"INF",
		"\xd9\xa3\xd9\xa0",
		"30\x1b[2J",
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };
		int64_t seconds;

		if (interval_parse(cases[i], &seconds, &err) == 0)
			fail_msg("\"%s\" was taken for %lld s", cases[i], (long long)seconds);
		assert_non_null(strstr(err.text, "days-hours:minutes:seconds, or UNLIMITED"));
		assert_null(strpbrk(err.text, "\n\x1b"));
	}
}

static void a_long_text_is_shortened_in_the_error(void **state)
{
	char text[10000];
	struct err err = { 0 };
	int64_t seconds;

	memset(text, '7', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(interval_parse(text, &seconds, &err), -1);
	assert_non_null(strstr(err.text, "UNLIMITED"));
	assert_int_equal(interval_parse(text, &seconds, NULL), -1);
}

static void formatted(void **state)
{
	char buf[24];

	assert_string_equal(interval_format(1800, buf, sizeof(buf)), "00:30:00");
	assert_string_equal(interval_format(86399, buf, sizeof(buf)), "23:59:59");
	assert_string_equal(interval_format(86400 + 9000, buf, sizeof(buf)), "1-02:30:00");
	assert_string_equal(interval_format(INTERVAL_ON_REQUEST, buf, sizeof(buf)), "UNLIMITED");
	assert_string_equal(interval_format(INTERVAL_MAX, buf, sizeof(buf)), "3660-00:00:00");
}

static void what_is_printed_can_be_read(void **state)
{
	for (int64_t s = 0; s <= INTERVAL_MAX; s += 1 + s / 7) {
		char buf[24];
		int64_t back;

		assert_int_equal(interval_parse(interval_format(s, buf, sizeof(buf)), &back, NULL), 0);
		assert_int_equal(back, s);
	}
}

static void of_the_option(void **state)
{
	int64_t seconds;
	struct err err;
	char buf[24];

	assert_int_equal(interval_parse_option("Auto", &seconds, &err), 0);
	assert_int_equal(seconds, INTERVAL_AUTO);
	assert_string_equal(interval_format(seconds, buf, sizeof(buf)), "auto");
	assert_int_equal(interval_parse_option("1:30", &seconds, &err), 0);
	assert_int_equal(seconds, 90);
	assert_int_equal(interval_parse_option("autos", &seconds, NULL), -1);
	assert_int_equal(interval_parse_option("autos", &seconds, &err), -1);
	assert_non_null(strstr(err.text, "UNLIMITED for checkpoints on request only; or auto"));
	assert_int_equal(interval_parse("auto", &seconds, &err), -1);
}

static void the_shortest(void **state)
{
	struct err err;

	assert_int_equal(interval_check_min(60, 60, &err), 0);
	assert_int_equal(interval_check_min(INTERVAL_ON_REQUEST, 60, &err), 0);
	assert_int_equal(interval_check_min(INTERVAL_AUTO, 60, &err), 0);
	assert_int_equal(interval_check_min(59, 60, &err), -1);
	assert_string_equal(err.text, "the interval 00:00:59 is shorter than this cluster allows: the shortest is 00:01:00 "
				      "(CheckpointMinInterval in fsched.conf)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(a_long_text_is_shortened_in_the_error),
		cmocka_unit_test(of_the_option),
		cmocka_unit_test(the_shortest),
		cmocka_unit_test(formatted),
		cmocka_unit_test(what_is_printed_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
