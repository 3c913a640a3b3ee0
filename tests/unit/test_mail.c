#include "unit.h"

#include <string.h>

#include "base/util.h"
#include "policy/mail.h"

static struct mail_seen seen;

static enum mail_event look(const struct status *s, unsigned restarts)
{
	const struct mail_seen before = seen;

	return mail_decide(&before, s, restarts, &seen);
}

/* Each thing is said once. */
static void the_life_of_a_job(void **state)
{
	struct status s = { .state = STATUS_ENABLED };

	memset(&seen, 0, sizeof(seen));
	assert_int_equal(look(&s, 0), MAIL_NONE);
	s.state = STATUS_RUNNING;
	assert_int_equal(look(&s, 0), MAIL_NONE);
	s.failed = 1;
	assert_int_equal(look(&s, 0), MAIL_FAILED);
	s.failed = 2;
	assert_int_equal(look(&s, 0), MAIL_NONE);
	s.epoch = 1;
	assert_int_equal(look(&s, 0), MAIL_NONE);
	s.failed = 3;
	assert_int_equal(look(&s, 0), MAIL_FAILED);
	s.state = STATUS_VACATED;
	s.epoch = 2;
	assert_int_equal(look(&s, 1), MAIL_VACATED);
	assert_int_equal(look(&s, 1), MAIL_NONE);
	s.state = STATUS_RESTORING;
	assert_int_equal(look(&s, 1), MAIL_NONE);
	s.state = STATUS_RUNNING;
	s.restored = 2;
	s.failed = 0;
	assert_int_equal(look(&s, 1), MAIL_RESTORED);
	assert_int_equal(look(&s, 1), MAIL_NONE);
	assert_int_equal(look(&s, 2), MAIL_RESTORED); /* from the same epoch once more */
	s.state = STATUS_HELD;
	assert_int_equal(look(&s, 3), MAIL_HELD);
	assert_int_equal(look(&s, 3), MAIL_NONE);
	s.state = STATUS_VACATED; /* restarted and vacated again between two looks */
	assert_int_equal(look(&s, 4), MAIL_VACATED);
	s.epoch = 3;
	assert_int_equal(look(&s, 5), MAIL_VACATED);
	s.state = STATUS_ENDED;
	assert_int_equal(look(&s, 5), MAIL_NONE);
}

static void addresses(void **state)
{
	static const char *const good[] = { "bob", "bob@example.org", "a.b+c%d=e@x-y.org", "a@b,c", "0" };
	static const char *const bad[] = { "",       "-bob",  "|cmd", "/tmp/x",     "+folder", "a,|b", "a,-b", "a,/b",
					   "a b",    "a\nb",  "~r x", "a,",         ",a",      "a;b",  "$(x)", "`x`",
					   "a\"b\"", "<a@b>", "a'b",  "\xc3\xbc@x", "a|b",     "a!b" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(mail_address_ok(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (mail_address_ok(bad[i]))
			fail_msg("%s", bad[i]);
}

static void texts(void **state)
{
	struct status s = { .epoch = 7, .restored = 6 };
	char buf[300];

	snprintf(s.error, sizeof(s.error), "bad\nline");
	for (enum mail_event e = MAIL_VACATED; e <= MAIL_FAILED; e++) {
		mail_text(e, &s, buf, sizeof(buf));
		assert_true(strlen(buf) > 10);
		assert_null(strchr(buf, '\n'));
	}
	mail_text(MAIL_RESTORED, &s, buf, sizeof(buf));
	assert_string_equal(buf, "Restored from epoch 6");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_life_of_a_job),
		cmocka_unit_test(addresses),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
