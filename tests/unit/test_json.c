/* Texts and names of any bytes in JSON. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "files/files_internal.h"
#include "base/json.h"

/* What a buffer of n bytes does to a text. */
static void a_character_cut_in_two_spoils_no_object(void **state)
{
	static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
	char cut[sizeof(text)];

	for (size_t n = 1; n <= sizeof(text); n++) {
		snprintf(cut, n, "%s", text);
		cleanup_json json_t *o = json_pack("{s:b, s:o}", "ok", 0, "error", json_text(cut));

		assert_non_null(o);
		assert_int_equal(strncmp(json_string_value(json_object_get(o, "error")), "a", n > 1 ? 1 : 0), 0);
	}
	cleanup_json json_t *whole = json_text(text), *odd = json_text("a\xff\nb");

	assert_string_equal(json_string_value(whole), text);
	assert_string_equal(json_string_value(odd), "a??b");
}

static void names_of_any_bytes_come_back(void **state)
{
	static const char *const names[] = { "/plain", "/\xc3\xa9", "/\xff\xfe 100%\n", "" };
	cleanup_json json_t *o = json_object();
	char back[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		json_object_clear(o);
		assert_int_equal(json_set_name(o, "path", names[i]), 0);
		assert_int_equal(json_get_name(o, "path", back, sizeof(back), NULL), 0);
		assert_string_equal(back, names[i]);
	}
}

/* The line that takes them to a client is at most 64 KiB, as ASCII and encoded by MUNGE. */
static void warnings_are_bounded_in_all(void **state)
{
	cleanup_json json_t *list = json_array();
	char path[301];

	for (size_t i = 0; i + 4 < sizeof(path); i += 4)
		memcpy(path + i, "\xf0\x9f\x98\x80", 5);
	for (int i = 0; i < 200; i++)
		add_warning(list, "\"%s\" number %d was written by the job and cannot be read", path, i);
	cleanup_free char *text = json_dumps(list, JSON_COMPACT | JSON_ENSURE_ASCII);

	assert_true(strlen(text) < 40000);
	assert_true(json_array_size(list) > 20);
	assert_string_equal(json_string_value(json_array_get(list, json_array_size(list) - 1)),
			    "further warnings are left out");
	add_warning(NULL, "nobody wants it");
	json_array_clear(list);
	for (int i = 0; i < 200; i++)
		add_warning(list, "short %d", i);
	assert_int_equal(json_array_size(list), JSON_WARNINGS_MAX + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_character_cut_in_two_spoils_no_object),
		cmocka_unit_test(names_of_any_bytes_come_back),
		cmocka_unit_test(warnings_are_bounded_in_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
