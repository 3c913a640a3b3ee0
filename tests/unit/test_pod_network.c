/* Ranges of addresses, and /etc/hosts of a pod. */
#include "unit.h"

#include <string.h>

#include "base/ipv4_range.h"
#include "base/util.h"
#include "pod/pod_hosts.h"

static void ranges(void **state)
{
	static const char *const bad[] = { "",
					   "198.18.0.0",
					   "198.18.0.0/",
					   "198.18.0.0/27",
					   "198.18.0.0/7",
					   "198.18.1.0/20",
					   "198.18.0.0/16x",
					   "127.0.0.0/8",
					   "0.0.0.0/8",
					   "224.0.0.0/8",
					   "::/16",
					   "198.18.0.256/24",
					   "198.18.0.0/-16",
					   "198.18.0/16",
					   "198.18.0.0/ 16",
					   "1198.18.0.0/16" };
	struct ipv4_range r;
	char text[16];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ipv4_range_parse(bad[i], &r), -1);
	assert_int_equal(ipv4_range_parse("198.18.224.0/20", &r), 0);
	assert_string_equal(ipv4_text(r.first + 1, text), "198.18.224.1");
	assert_int_equal(ipv4_range_size(&r), 4096);
	assert_true(ipv4_range_overlaps(&r, r.first, 32));
	assert_true(ipv4_range_overlaps(&r, r.first + 4095, 32));
	assert_false(ipv4_range_overlaps(&r, r.first + 4096, 32));
	assert_true(ipv4_range_overlaps(&r, 198u << 24 | 18 << 16, 15));
	assert_false(ipv4_range_overlaps(&r, 198u << 24 | 18 << 16, 17));
	assert_true(ipv4_range_overlaps(&r, 0, 0));
}

static void hosts(void **state)
{
	static const struct {
		const char *host, *was, *is;
	} cases[] = {
		{ "n1", "", "198.18.0.1 n1\n" },
		{ "n1", "127.0.0.1 localhost\n10.0.0.1 n1.c n1\n10.0.0.2 n2",
		  "198.18.0.1 n1.c n1 n1\n127.0.0.1 localhost\n10.0.0.2 n2" },
		{ "n1.c", "10.0.0.1\tN1 # n1.c\n10.0.0.2 n2 # n1\n", "198.18.0.1 N1 n1.c\n10.0.0.2 n2 # n1\n" },
		{ "n1", "127.0.0.1 localhost localhost.localdomain n1\n::1 n1 ip6-localhost\n",
		  "198.18.0.1 n1 n1 n1\n127.0.0.1 localhost localhost.localdomain\n::1 ip6-localhost\n" },
		{ "n1", "10.0.0.11 n11\n\n# comment\nn1 other\n",
		  "198.18.0.1 n1\n10.0.0.11 n11\n\n# comment\nn1 other\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *got = pod_hosts_change(cases[i].was, cases[i].host, "198.18.0.1");

		assert_string_equal(got, cases[i].is);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),
		cmocka_unit_test(hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
