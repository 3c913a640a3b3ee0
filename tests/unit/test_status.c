#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/interval.h"
#include "base/status.h"
#include "base/util.h"

static const struct status full = {
	.state = STATUS_RUNNING,
	.interval = 1800,
	.epoch = 3,
	.epoch_time = 1795388462,
	.bytes = 12897484,
	.frozen_us = 31000,
	.total_us = 2400000,
	.memory = "fork,2.0GiB,scanned:2.0GiB",
	.kept = "2,3",
	.skipped = 1,
	.used = 5400,
	.restored = 2,
	.steps = 4,
	.error = "epoch 2: No space left on device",
	.uuid = "0b0e8c4e-96ce-4a4c-8f0d-5a1f2c3d4e5f",
	.agent = "40123",
};

#define FULL_TEXT                                                                                                                                                  \
	"Checkpoint={state=running interval=00:30:00 epoch=3 time=2026-11-22T23:01:02 size=12.3MiB "                                                               \
	"frozen=31ms total=2.4s memory=fork,2.0GiB,scanned:2.0GiB kept=2,3 skipped=1 used=01:30:00 restored=2 steps=4 error=\"epoch 2: No space left on device\" " \
	"uuid=0b0e8c4e-96ce-4a4c-8f0d-5a1f2c3d4e5f agent=40123}"

static void rendered(void **state)
{
	struct status first = { .state = STATUS_ENABLED, .interval = 0 };
	cleanup_free char *text = status_render(&full), *empty = status_render(&first), *automatic = NULL,
			  *adapted = NULL;

	assert_string_equal(text, FULL_TEXT);
	assert_string_equal(empty, "Checkpoint={state=enabled interval=UNLIMITED epoch=0 skipped=0}");
	first = (struct status){ .state = STATUS_ENABLED, .interval = INTERVAL_AUTO };
	automatic = status_render(&first);
	assert_string_equal(automatic, "Checkpoint={state=enabled interval=auto epoch=0 skipped=0}");
	first.every = 2530;
	adapted = status_render(&first);
	assert_string_equal(adapted, "Checkpoint={state=enabled interval=auto every=00:42:10 epoch=0 skipped=0}");
	assert_int_equal(status_parse(adapted, &first, NULL), 0);
	assert_int_equal(first.interval, INTERVAL_AUTO);
	assert_int_equal(first.every, 2530);
}

static void parsed(void **state)
{
	struct err err = { 0 };
	struct status s;

	assert_int_equal(status_parse(FULL_TEXT, &s, &err), 0);
	assert_int_equal(s.state, STATUS_RUNNING);
	assert_int_equal(s.interval, 1800);
	assert_int_equal(s.epoch, 3);
	assert_int_equal(s.epoch_time, full.epoch_time);
	assert_int_equal(s.bytes, 12897485); /* 12.3 MiB */
	assert_int_equal(s.frozen_us, 31000);
	assert_int_equal(s.total_us, 2400000);
	assert_string_equal(s.memory, full.memory);
	assert_string_equal(s.kept, "2,3");
	assert_int_equal(s.skipped, 1);
	assert_int_equal(s.restored, 2);
	assert_int_equal(s.steps, 4);
	assert_string_equal(s.error, full.error);
	assert_string_equal(s.uuid, full.uuid);
	assert_string_equal(s.agent, "40123");
}

/* Sizes and times lose digits when they are printed, but only once. */
static void stable_when_read_and_printed_again(void **state)
{
	struct status s = full;

	for (int i = 0; i < 2000; i++) {
		cleanup_free char *one = NULL, *two = NULL;
		struct err err = { 0 };
		struct status back;

		s.bytes = (uint64_t)1 << (i % 60);
		s.bytes += s.bytes / 1000 * (uint64_t)i;
		s.frozen_us = 1 + (int64_t)i * i * i * 7;
		s.total_us = (int64_t)1 << (i % 45);
		one = status_render(&s);
		if (status_parse(one, &back, &err) < 0)
			fail_msg("%s: %s", one, err.text);
		two = status_render(&back);
		assert_string_equal(one, two);
	}
}

static void text_of_others_is_kept(void **state)
{
	static const struct {
		const char *before, *after;
	} cases[] = {
		{ NULL, "" },
		{ "", "" },
		{ "ask Ann first", "ask Ann first " },
		{ "no xCheckpoint={state=a}", "no xCheckpoint={state=a} " },
	};
	cleanup_free char *entry = status_render(&full), *replaced = NULL, *twice = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *want = xasprintf("%s%s", cases[i].after, entry);
		cleanup_free char *got = status_replace(cases[i].before, &full);

		assert_string_equal(got, want);
	}
	replaced = status_replace("front {x} Checkpoint={state=held error=\"a } b\" epoch=0}, \"behind\" }", &full);
	assert_string_equal(replaced, "front {x} " FULL_TEXT ", \"behind\" }");
	twice = status_replace(replaced, &full);
	assert_string_equal(twice, replaced);
}

static void an_entry_without_end_is_replaced(void **state)
{
	cleanup_free char *got = status_replace("front Checkpoint={state=held error=\"ab}", &full);

	assert_string_equal(got, "front " FULL_TEXT);
}

static void hostile_text_cannot_leave_its_value(void **state)
{
	struct status s = full, back;
	cleanup_free char *text = NULL;

	snprintf(s.error, sizeof(s.error), "a\"} b\n\x1b[2J {c\\ \xc2\x9b\xff uuid=1");
	snprintf(s.kept, sizeof(s.kept), "1 2} uuid=7\"");
	snprintf(s.agent, sizeof(s.agent), "1\t2");
	text = status_render(&s);
	assert_int_equal(status_parse(text, &back, NULL), 0);
	assert_string_equal(back.uuid, full.uuid);
	assert_string_equal(back.error, "a') b??[2J (c' ??? uuid=1");
	assert_string_equal(back.kept, "1_2)_uuid=7'");
	assert_string_equal(back.agent, "1?2");
}

static void the_longest_texts_fit(void **state)
{
	struct status s = full, back;
	cleanup_free char *text = NULL;

	memset(s.error, 'e', sizeof(s.error) - 1);
	memset(s.kept, '1', sizeof(s.kept) - 1);
	memset(s.agent, '9', sizeof(s.agent) - 1);
	text = status_render(&s);
	assert_int_equal(status_parse(text, &back, NULL), 0);
	assert_string_equal(back.error, s.error);
	assert_string_equal(back.kept, s.kept);
}

static void members_of_later_versions_are_ignored(void **state)
{
	struct status s;

	assert_int_equal(status_parse("Checkpoint={state=held new=x lease=\"a b\" epoch=7}", &s, NULL), 0);
	assert_int_equal(s.epoch, 7);
	assert_int_equal(status_parse("Checkpoint={}", &s, NULL), 0);
	assert_int_equal(s.state, STATUS_UNKNOWN);
	assert_string_equal(status_state_text(&s), "");
}

static void a_state_of_a_later_version_is_kept(void **state)
{
	static const char later[] = "Checkpoint={state=migrating interval=UNLIMITED epoch=0 skipped=0}";
	struct status s;
	cleanup_free char *same = NULL, *changed = NULL;

	assert_int_equal(status_parse(later, &s, NULL), 0);
	assert_int_equal(s.state, STATUS_UNKNOWN);
	assert_string_equal(status_state_text(&s), "migrating");
	same = status_replace(later, &s);
	assert_string_equal(same, later);
	s.state = STATUS_HELD;
	changed = status_replace(later, &s);
	assert_string_equal(changed, "Checkpoint={state=held interval=UNLIMITED epoch=0 skipped=0}");
}

static void every_state_has_a_word(void **state)
{
	for (enum status_state i = STATUS_ENABLED; i <= STATUS_HELD; i++) {
		struct status s = { .state = i }, back = { 0 };

		assert_true(*status_state_text(&s));
		assert_int_equal(status_set_state(&back, status_state_text(&s)), 0);
		assert_int_equal(back.state, i);
	}
}

static void malformed(void **state)
{
	static const char *const cases[] = {
		"",
		"Checkpoint=",
		"checkpoint={state=held}",
		"aCheckpoint={state=held}",
		"Checkpoint={state=held",
		"Checkpoint={state}",
		"Checkpoint={=x}",
		"Checkpoint={state=\"held}",
		"Checkpoint={epoch=}",
		"Checkpoint={epoch=-1}",
		"Checkpoint={epoch=4294967296}",
		"Checkpoint={epoch=3x}",
		"Checkpoint={time=yesterday}",
		"Checkpoint={time=2026-11-22T23:01:02Z}",
		"Checkpoint={size=12}",
		"Checkpoint={size=12.3 MiB}",
		"Checkpoint={size=99999EiB}",
		"Checkpoint={size=1024EiB}",
		"Checkpoint={size=MiB}",
		"Checkpoint={frozen=31}",
		"Checkpoint={frozen=ms}",
		"Checkpoint={frozen=99999999999999h}",
		"Checkpoint={interval=x}",
		"Checkpoint={interval=}",
		"Checkpoint={state=seventeen-letters}",
		"Checkpoint={error=\"a\"b}",
		"Checkpoint={error=a\"b\"}",
		"Checkpoint={uuid=0b0e8c4e-96ce-4a4c-8f0d-5a1f2c3d4e5f0}",
	};
	struct status s;

	assert_int_equal(status_parse(NULL, &s, NULL), -1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = { 0 };

		if (status_parse(cases[i], &s, &err) == 0)
			fail_msg("accepted: %s", cases[i]);
		assert_true(strlen(err.text) > 10);
	}
}

static void failures_are_counted_since_the_first(void **state)
{
	struct status s = { .state = STATUS_RUNNING, .failed = 3, .failed_since = 1764457262 }, back;
	cleanup_free char *text = NULL, *none = NULL;

	text = status_render(&s);
	assert_non_null(strstr(text, " failed=3 since="));
	assert_int_equal(status_parse(text, &back, NULL), 0);
	assert_int_equal(back.failed, 3);
	assert_int_equal(back.failed_since, s.failed_since);
	s.failed = 0;
	none = status_render(&s);
	assert_null(strstr(none, "failed"));
	assert_null(strstr(none, "since"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures_are_counted_since_the_first),
		cmocka_unit_test(rendered),
		cmocka_unit_test(parsed),
		cmocka_unit_test(stable_when_read_and_printed_again),
		cmocka_unit_test(text_of_others_is_kept),
		cmocka_unit_test(an_entry_without_end_is_replaced),
		cmocka_unit_test(hostile_text_cannot_leave_its_value),
		cmocka_unit_test(the_longest_texts_fit),
		cmocka_unit_test(members_of_later_versions_are_ignored),
		cmocka_unit_test(a_state_of_a_later_version_is_kept),
		cmocka_unit_test(every_state_has_a_word),
		cmocka_unit_test(malformed),
	};

	setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
