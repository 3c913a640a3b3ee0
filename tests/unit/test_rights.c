/* The user's rights for a moment, and nothing of root's meanwhile. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/user_rights.h"
#include "base/util.h"
#include "scratch.h"

#define USER  12345
#define GROUP 12346
#define EXTRA 12347

static struct err err;
static const gid_t groups[] = { GROUP, EXTRA };

static int open_errno(const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? errno : 0;
}

static void take(struct user_rights *r)
{
	if (user_rights_take(r, USER, GROUP, groups, 2, &err) < 0)
		fail_msg("%s", err.text);
}

static void files_are_opened_as_the_user(void **state)
{
	int own, others, of_group;
	struct user_rights r;

	put_text(at("root"), "");
	put_text(at("group"), "");
	put_text(at("user"), "");
	assert_int_equal(chmod(at("root"), 0600) | chmod(at("group"), 0640) | chmod(at("user"), 0600), 0);
	assert_int_equal(chown(at("group"), 0, EXTRA) | chown(at("user"), USER, 0), 0);
	take(&r);
	others = open_errno(at("root"));
	of_group = open_errno(at("group"));
	own = open_errno(at("user"));
	user_rights_return(&r);
	assert_int_equal(others, EACCES);
	assert_int_equal(of_group, 0);
	assert_int_equal(own, 0);
	assert_int_equal(open_errno(at("root")), 0);
}

/* A file system user with CAP_SYS_PTRACE may follow them. */
static void links_into_processes_of_others_lead_nowhere(void **state)
{
	const pid_t parent = getppid();
	cleanup_free char *root = xasprintf("/proc/%d/root", (int)parent), *cwd = xasprintf("/proc/%d/cwd", (int)parent);
	struct user_rights r;
	int a, b;

	take(&r);
	a = open_errno(root);
	b = open_errno(cwd);
	user_rights_return(&r);
	assert_int_equal(a, EACCES);
	assert_int_equal(b, EACCES);
	assert_int_equal(open_errno(root), 0);
}

static void everything_comes_back(void **state)
{
	const gid_t mine[] = { 4, 20 };
	gid_t now[8];
	struct user_rights r;
	int sig = 0;

	assert_int_equal(setgroups(2, mine), 0);
	assert_int_equal(prctl(PR_SET_PDEATHSIG, SIGUSR1), 0);
	take(&r);
	errno = ENOTTY;
	user_rights_return(&r);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(geteuid(), 0);
	assert_int_equal(getegid(), 0);
	assert_int_equal(getgroups(8, now), 2);
	assert_memory_equal(now, mine, sizeof(mine));
	assert_int_equal(prctl(PR_GET_PDEATHSIG, &sig), 0);
	assert_int_equal(sig, SIGUSR1);
	assert_int_equal(prctl(PR_SET_PDEATHSIG, 0), 0);
}

/* Not root: nothing can be taken, and nothing is opened with the wrong rights. */
static void without_the_right_to_it_it_fails(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct user_rights r;

		if (setresgid(GROUP, GROUP, GROUP) || setresuid(USER, USER, USER))
			_exit(2);
		_exit(user_rights_take(&r, USER + 1, GROUP, groups, 2, &err) == -1 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int set_up(void **state)
{
	return scratch_make(0755);
}

static int tear_down(void **state)
{
	scratch_remove();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_opened_as_the_user),
		cmocka_unit_test(links_into_processes_of_others_lead_nowhere),
		cmocka_unit_test(everything_comes_back),
		cmocka_unit_test(without_the_right_to_it_it_fails),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
