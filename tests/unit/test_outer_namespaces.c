/* Namespaces that a plugin of Slurm has made for a job before fsched's. */
#include "unit.h"

#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pod/outer_namespaces.h"
#include "scratch.h"

/* Enters new namespaces in a child. Returns what the check says of them there: 0, or 1 and a text with word. */
static int check_in(int flags, const char *word)
{
	const pid_t pid = fork();
	int st;

	if (pid == 0) {
		char user[NAMESPACE_NAME];
		struct err err = { 0 };

		outer_namespaces_note(user);
		if (!*user || unshare(flags))
			_exit(3);
		if (outer_namespaces_check(user, &err) == 0)
			_exit(0);
		_exit(strstr(err.text, word) ? 1 : 2);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	return WEXITSTATUS(st);
}

static void mounts_do_no_harm(void **state)
{
	assert_int_equal(check_in(0, ""), 0);
	assert_int_equal(check_in(CLONE_NEWNS | CLONE_NEWIPC, ""), 0);
}

static void others_are_refused(void **state)
{
	assert_int_equal(check_in(CLONE_NEWPID, "PID namespace"), 1);
	assert_int_equal(check_in(CLONE_NEWUSER, "user namespace"), 1);
}

/* As namespace/linux does: T is outside of the PID namespace whose /proc it sees. */
static void a_foreign_proc_is_refused(void **state)
{
	const pid_t pid = fork();
	struct err err = { 0 };
	int st;

	if (pid == 0) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", "/proc", "tmpfs", 0, NULL))
			_exit(3);
		_exit(outer_namespaces_check("", &err) && strstr(err.text, "PID namespace") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(WEXITSTATUS(st), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mounts_do_no_harm),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(a_foreign_proc_is_refused),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
