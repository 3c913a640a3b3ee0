/* What is left of pods is removed, by a process that is nobody's child if it takes long. */
#include "unit.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pod/pod.h"
#include "scratch.h"
#include "base/clock.h"

static void make_pod(const char *name)
{
	char path[600];

	assert_int_equal(mkdir(at(name), 0700), 0);
	snprintf(path, sizeof(path), "%s/tmp", at(name));
	assert_int_equal(mkdir(path, 01777), 0);
	strcat(path, "/file");
	put_text(path, "");
}

static bool there(const char *name)
{
	struct stat st;

	return lstat(at(name), &st) == 0;
}

static void a_pod_is_removed(void **state)
{
	make_pod("12.abc");
	make_pod("12.abcd");
	pod_cleanup(at("12.abc"));
	assert_false(there("12.abc"));
	assert_true(there("12.abcd"));
	assert_false(there(".removed-12.abc.0"));
	pod_cleanup(at("12.abc"));
	pod_cleanup(at("12.abcd"));
}

/* As if the node had failed, or whoever was at it had been killed. */
static void what_was_set_aside_is_removed(void **state)
{
	make_pod(".removed-9.x.0");
	make_pod("10.y");
	pod_cleanup_rest(scratch);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	for (int64_t end = now_us() + 20000000; there(".removed-9.x.0") && now_us() < end;)
		usleep(10000);
	assert_false(there(".removed-9.x.0"));
	assert_true(there("10.y"));
}

static void a_name_that_is_taken(void **state)
{
	make_pod("13.z");
	make_pod(".removed-13.z.0");
	pod_cleanup(at("13.z"));
	assert_false(there("13.z"));
	for (int64_t end = now_us() + 20000000; there(".removed-13.z.0") && now_us() < end;)
		usleep(10000);
	assert_false(there(".removed-13.z.0"));
}

static int set_up(void **state)
{
	return scratch_make(0700);
}

static int tear_down(void **state)
{
	scratch_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pod_is_removed),
		cmocka_unit_test(what_was_set_aside_is_removed),
		cmocka_unit_test(a_name_that_is_taken),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
