/* A directory of which the kernel cannot tell the entries (a disk that fails, a file server that is gone) is not an
 * empty one. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/dir_tree.h"
#include "base/util.h"
#include "criu/criu_ghost.h"
#include "image/restore_dir.h"
#include "criu/criu.h"
#include "scratch.h"
#include "store/store.h"
#include "store/store_internal.h"

static struct err err;

/* From here on no directory of this process can be read: EIO. */
static void break_directories(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getdents64, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { ARRAY_SIZE(f), f };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(99);
}

/* Runs fn, which returns 0 if all is well, in a child whose directories cannot be read. */
static void with_broken_directories(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		break_directories();
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void entries_and_the_end(void **state)
{
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	unsigned n = 0;

	assert_int_equal(mkdir(at("three"), 0700), 0);
	put_text(at("three/..."), "");
	put_text(at("three/.a"), "");
	put_text(at("three/b"), "");
	d = dir_open_at(scratch_fd, "three");
	assert_non_null(d);
	while (dir_next(d, &e) > 0)
		n++;
	assert_int_equal(n, 3);
	assert_int_equal(dir_next(d, &e), 0);
	assert_int_equal(symlink("three", at("link")), 0);
	assert_null(dir_open_at(scratch_fd, "link"));
	assert_null(dir_open_at(scratch_fd, "three/b"));
}

static int is_an_error(void)
{
	cleanup_dir DIR *d = dir_open_at(scratch_fd, ".");
	const struct dirent *e;

	return d && dir_next(d, &e) == -1 && errno == EIO ? 0 : 1;
}

/* What decides by what it does not find in a directory. */
static int nobody_takes_it_for_empty(void)
{
	static const uint8_t token[16];
	const struct epoch_walk nothing = { 0 };
	struct store s = { .epochsfd = scratch_fd };
	struct criu_facts facts;
	struct criu_ghost *ghosts;
	unsigned epoch;
	size_t n;

	if (criu_check_creds(scratch_fd, 0, 0, NULL, 0, &err) == 0 || err.num != EIO)
		return 1;
	if (criu_read_facts(scratch_fd, &facts, &err) == 0)
		return 2;
	if (criu_last_pid(scratch_fd, 10, &err) >= 0 || err.num != EIO)
		return 3;
	if (criu_ghosts_read(scratch_fd, &ghosts, &n, &err) == 0)
		return 4;
	if (mem_restore_dir_make(NULL, scratch_fd, scratch_fd, token, NULL, 1, &err) == 0)
		return 5;
	if (store_list_epochs(&s, &epoch, 1) != -1)
		return 6;
	if (epoch_walk(scratch_fd, &nothing, &err) == 0)
		return 7;
	if (remove_tree_at(AT_FDCWD, at("three")) == 0 || errno != EIO)
		return 8;
	return tree_size_at(AT_FDCWD, scratch) == -1 ? 0 : 9;
}

static void errors_are_no_end(void **state)
{
	with_broken_directories(is_an_error);
	with_broken_directories(nobody_takes_it_for_empty);
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
		cmocka_unit_test(entries_and_the_end),
		cmocka_unit_test(errors_are_no_end),
	};

	scratch_needs_root();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
