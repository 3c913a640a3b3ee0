#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sched.h>

#include "base/log.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/proc.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/user.h"
#include "base/util.h"

static char dir[] = "/tmp/test_util.XXXXXX";
static int dirfd_ = -1;

static void make(const char *name, const char *text)
{
	cleanup_close int fd = openat(dirfd_, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text)), 0);
}

static bool there(const char *name)
{
	struct stat st;

	return fstatat(dirfd_, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void files_are_read_whole_or_not(void **state)
{
	cleanup_free char *big = xcalloc(1, 100001), *text = NULL;

	memset(big, 'x', 100000);
	make("big", big);
	assert_int_equal(read_file_at(dirfd_, "big", 99999, &text), -1);
	assert_int_equal(errno, EFBIG);
	assert_null(text);
	assert_int_equal(read_file_at(dirfd_, "big", 100000, &text), 100000);
	assert_string_equal(text, big);
	free(steal_ptr(&text));
	make("empty", "");
	assert_int_equal(read_file_at(dirfd_, "empty", 0, &text), 0);
	assert_string_equal(text, "");
}

static void only_regular_files_are_read(void **state)
{
	cleanup_free char *text = NULL;

	make("target", "x");
	assert_int_equal(symlinkat("target", dirfd_, "link"), 0);
	assert_int_equal(mkfifoat(dirfd_, "fifo", 0600), 0);
	assert_int_equal(mkdirat(dirfd_, "directory", 0700), 0);
	assert_int_equal(read_file_at(dirfd_, "link", 10, &text), -1);
	assert_int_equal(errno, ELOOP);
	assert_int_equal(read_file_at(dirfd_, "fifo", 10, &text), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(read_file_at(dirfd_, "directory", 10, &text), -1);
	assert_int_equal(errno, EISDIR);
	assert_int_equal(read_file_at(dirfd_, "missing", 10, &text), -1);
	assert_int_equal(errno, ENOENT);
}

static int count_entries(void)
{
	cleanup_dir DIR *d = fdopendir(openat(dirfd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int n = 0;

	while (readdir(d))
		n++;
	return n;
}

static void a_file_is_replaced_whole(void **state)
{
	cleanup_free char *text = NULL;
	mode_t old = umask(077);
	struct stat st;
	int entries;

	assert_int_equal(write_file_atomic(dirfd_, "atomic", 0640, getegid(), "one", 3), 0);
	entries = count_entries();
	assert_int_equal(write_file_atomic(dirfd_, "atomic", 0604, (gid_t)-1, "two!", 4), 0);
	umask(old);
	assert_int_equal(count_entries(), entries);
	assert_int_equal(fstatat(dirfd_, "atomic", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	assert_int_equal(read_file_at(dirfd_, "atomic", 10, &text), 4);
	assert_string_equal(text, "two!");
	/* A link is replaced, not followed. */
	assert_int_equal(symlinkat("atomic", dirfd_, "to_atomic"), 0);
	assert_int_equal(write_file_atomic(dirfd_, "to_atomic", 0600, (gid_t)-1, "x", 1), 0);
	assert_int_equal(fstatat(dirfd_, "atomic", &st, 0), 0);
	assert_int_equal(st.st_size, 4);
}

static void a_failed_replacement_leaves_the_old_file(void **state)
{
	cleanup_free char *text = NULL;
	int entries;

	assert_int_equal(mkdirat(dirfd_, "occupied", 0700), 0);
	entries = count_entries();
	assert_int_equal(write_file_atomic(dirfd_, "occupied", 0600, (gid_t)-1, "x", 1), -1);
	assert_int_equal(errno, EISDIR);
	assert_int_equal(write_file_atomic(dirfd_, "a/b", 0600, (gid_t)-1, "x", 1), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(count_entries(), entries);
	make("limited", "old");
	/* A full disk, as far as write() is concerned. */
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = { 2, 2 };

		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &none);
		_exit(write_file_atomic(dirfd_, "limited", 0600, (gid_t)-1, "long", 4) < 0 && errno == EFBIG ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read_file_at(dirfd_, "limited", 10, &text), 3);
	assert_string_equal(text, "old");
	assert_int_equal(count_entries(), entries + 1);
}

static void trees_are_removed(void **state)
{
	make("outside", "x");
	assert_int_equal(mkdirat(dirfd_, "tree", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/a", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/a/b", 0), 0);
	make("tree/a/file\nwith newline", "x");
	assert_int_equal(symlinkat("../outside", dirfd_, "tree/link"), 0);
	assert_int_equal(symlinkat("..", dirfd_, "tree/a/up"), 0);
	assert_int_equal(mkfifoat(dirfd_, "tree/fifo", 0), 0);
	for (int i = 0; i < 3000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "tree/a/%d", i);
		make(name, "");
	}
	assert_int_equal(remove_tree_at(dirfd_, "tree"), 0);
	assert_false(there("tree"));
	assert_true(there("outside"));
	assert_int_equal(remove_tree_at(dirfd_, "tree"), 0);
	assert_int_equal(symlinkat(".", dirfd_, "dirlink"), 0);
	assert_int_equal(remove_tree_at(dirfd_, "dirlink"), 0);
	assert_true(there("outside"));
	assert_int_equal(remove_tree_at(dirfd_, "outside"), 0);
	assert_false(there("outside"));
}

static void a_removal_has_an_end(void **state)
{
	assert_int_equal(mkdirat(dirfd_, "tree", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/a", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/a/b", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/c", 0700), 0);
	assert_int_equal(remove_tree_until(dirfd_, "tree", now_us()), -1);
	assert_int_equal(errno, ETIME);
	assert_true(there("tree"));
	assert_int_equal(remove_tree_until(dirfd_, "tree", now_us() + 60000000), 0);
	assert_false(there("tree"));
}

/* Deeper than there are descriptors, and than PATH_MAX. */
static void deep_trees_are_removed(void **state)
{
	int fd = dup(dirfd_);

	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(fd, i ? "deeper" : "deep", 0700), 0);
		next = openat(fd, i ? "deeper" : "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_true(tree_size_at(dirfd_, "deep") >= 0);
	assert_int_equal(remove_tree_at(dirfd_, "deep"), 0);
	assert_false(there("deep"));
}

static void mounts_are_not_entered(void **state)
{
	cleanup_free char *from = xasprintf("%s/from", dir), *to = xasprintf("%s/tree/sub/to", dir);
	pid_t pid;
	int status;

	assert_int_equal(mkdirat(dirfd_, "from", 0700), 0);
	make("from/precious", "x");
	assert_int_equal(mkdirat(dirfd_, "tree", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/sub", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "tree/sub/to", 0700), 0);
	pid = fork();
	if (pid == 0) {
		/* 77: this user may not mount. */
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount(from, to, NULL, MS_BIND, NULL) < 0)
			_exit(77);
		if (remove_tree_at(dirfd_, "tree") == 0)
			_exit(1);
		_exit(errno == EXDEV || errno == EBUSY ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(there("from/precious"));
	assert_int_equal(remove_tree_at(dirfd_, "tree"), 0);
	assert_int_equal(remove_tree_at(dirfd_, "from"), 0);
	if (status == 77 << 8)
		skip();
	assert_int_equal(status, 0);
}

static void directories_are_made(void **state)
{
	cleanup_free char *path = xasprintf("%s/new/a//b/", dir), *through_file = xasprintf("%s/plain/x", dir);
	mode_t old = umask(077);
	struct stat st;

	assert_int_equal(mkdir_parents(path, 0755), 0);
	umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fstatat(dirfd_, "new", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(fchmodat(dirfd_, "new", 0700, 0), 0);
	assert_int_equal(mkdir_parents(path, 0755), 0);
	assert_int_equal(fstatat(dirfd_, "new", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	make("plain", "");
	assert_int_equal(mkdir_parents(through_file, 0755), -1);
	assert_int_equal(errno, ENOTDIR);
	assert_int_equal(mkdir_parents("/", 0755), 0);
}

static void sizes_of_trees(void **state)
{
	cleanup_free char *big = xcalloc(1, 65537);

	memset(big, 'x', 65536);
	assert_int_equal(mkdirat(dirfd_, "sized", 0700), 0);
	assert_int_equal(mkdirat(dirfd_, "sized/sub", 0700), 0);
	make("sized/one", big);
	make("sized/sub/two", big);
	assert_int_equal(symlinkat("one", dirfd_, "sized/link"), 0);
	sync();
	assert_in_range(tree_size_at(dirfd_, "sized"), 131072, 200000);
	assert_int_equal(tree_size_at(dirfd_, "nothing"), -1);
}

static void texts(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },           { 1023, "1023 B" },        { 1024, "1.0 KiB" },        { 12897484, "12.3 MiB" },
		{ 1048575, "1.0 MiB" }, { 1ULL << 40, "1.0 TiB" }, { UINT64_MAX, "16.0 EiB" },
	};
	static const struct {
		int64_t us;
		const char *text;
	} durations[] = {
		{ -5, "0 us" },
		{ 999, "999 us" },
		{ 1000, "1 ms" },
		{ 31400, "31 ms" },
		{ 999499, "999 ms" },
		{ 999500, "1.0 s" },
		{ 2400000, "2.4 s" },
		{ 59949999, "59.9 s" },
		{ 59950000, "1 min 0 s" },
		{ 65000000, "1 min 5 s" },
		{ 7500000000, "2 h 5 min" },
		{ INT64_MAX / 2, "1281023894 h 0 min" },
	};
	char buf[32];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_string_equal(format_size(sizes[i].bytes, buf, sizeof(buf)), sizes[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++)
		assert_string_equal(format_duration(durations[i].us, buf, sizeof(buf)), durations[i].text);
	setenv("TZ", "UTC", 1);
	assert_string_equal(format_time(1795388462, buf, sizeof(buf)), "2026-11-22T23:01:02");
}

static void control_characters_are_replaced(void **state)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{ "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "a\nb\tc\x1b[2J\x7f", "a?b?c?[2J?" },
		{ "\xc2\x9b"
		  "2J",
		  "??2J" },
		{ "\x9b\xff\xc3", "???" },
		{ "\xe2\x80\xae"
		  "gpj",
		  "???gpj" },
		/* isolates and marks change the direction as well */
		{ "\xe2\x81\xa6"
		  "a\xe2\x81\xa9\xd8\x9c\xe2\x80\x8f",
		  "???a????????" },
		{ "\xe2\x81\xa5 \xe2\x81\xaa \xd8\x9b \xe2\x80\x8d", "\xe2\x81\xa5 \xe2\x81\xaa \xd8\x9b \xe2\x80\x8d" },
		{ "\xc0\x8a\xed\xa0\x80", "?????" },
	};
	char buf[64], small[6];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(printable(cases[i].from, buf, sizeof(buf)), cases[i].to);
	/* Never half of a character at the end. */
	assert_string_equal(printable("abc\xe2\x82\xac", small, sizeof(small)), "abc");
	assert_string_equal(printable("abcdefgh", small, sizeof(small)), "abcde");
}

static void log_lines_cannot_be_forged(void **state)
{
	cleanup_free char *path = xasprintf("%s/log", dir), *text = NULL, *want = NULL;

	log_open(LOG_TO_FILE, "test", path);
	log_prefix("job 12");
	log_warn("file %s", "a\n2026-01-01T00:00:00 test[1]: forged");
	log_prefix(NULL);
	log_info("two");
	log_debug("not shown");
	log_open(LOG_TO_STDERR, "test", NULL);
	assert_true(read_file_at(dirfd_, "log", 4096, &text) > 0);
	want = xasprintf(" test[%d]: job 12: warning: file a?2026-01-01T00:00:00 test[1]: forged\n", (int)getpid());
	assert_memory_equal(text + 19, want, strlen(want));
	assert_non_null(strstr(text, "]: two\n"));
	assert_null(strstr(text, "not shown"));
}

static void errors_grow_from_the_inside(void **state)
{
	struct err err = { 0 };

	assert_int_equal(err_sys(&err, ENOSPC, "write %s", "pages.img"), -1);
	assert_int_equal(err.num, ENOSPC);
	assert_int_equal(err_wrap(&err, "epoch %d", 3), -1);
	assert_string_equal(err.text, "epoch 3: write pages.img: No space left on device");
	assert_int_equal(err.num, ENOSPC);
	for (int i = 0; i < 200; i++)
		err_wrap(&err, "again and again");
	assert_true(strlen(err.text) < sizeof(err.text));
	assert_int_equal(err_wrap(NULL, "x"), -1);
}

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_ < 0;
}

static int teardown(void **state)
{
	close(dirfd_);
	return remove_tree_at(AT_FDCWD, dir);
}

static void numbers_of_a_status(void **state)
{
	const char *const status = "Name:\tNSpid:\t9\nPPid:\t7\nNSpid:\t4711\t12\t3\nSeccomp:\t2\n",
			  *const own = "/proc/self/status";
	cleanup_free char *mine = NULL;

	(void)state;
	assert_int_equal(proc_status_number(status, "NSpid", -1), 3);
	assert_int_equal(proc_status_number(status, "PPid", -1), 7);
	assert_int_equal(proc_status_number(status, "Seccomp", -1), 2);
	assert_int_equal(proc_status_number(status, "NS", -1), -1);
	assert_int_equal(proc_status_number("", "NSpid", -1), -1);
	assert_int_equal(proc_status_number("NSpid:", "NSpid", -1), -1);
	assert_true(read_file_at(AT_FDCWD, own, 65536, &mine) > 0);
	assert_int_equal(proc_status_number(mine, "NSpid", -1), getpid());
}

/* Stops itself so often as the user would. */
static struct user_child start_stopped(unsigned times)
{
	struct user_child c = { .pid = fork() };

	if (c.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (times--)
			raise(SIGSTOP);
		_exit(7);
	}
	assert_true(c.pid > 0);
	return c;
}

static void a_child_that_is_stopped_goes_on(void **state)
{
	struct user_child c = start_stopped(3);

	(void)state;
	assert_true(user_child_ended(&c, true));
	assert_int_equal(c.stops, 3);
	assert_false(c.given_up);
	assert_int_equal(WEXITSTATUS(c.status), 7);
	c = start_stopped(1000000);
	assert_true(user_child_ended(&c, true));
	assert_true(c.given_up && WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_read_whole_or_not),
		cmocka_unit_test(a_child_that_is_stopped_goes_on),
		cmocka_unit_test(only_regular_files_are_read),
		cmocka_unit_test(a_file_is_replaced_whole),
		cmocka_unit_test(a_failed_replacement_leaves_the_old_file),
		cmocka_unit_test(trees_are_removed),
		cmocka_unit_test(a_removal_has_an_end),
		cmocka_unit_test(deep_trees_are_removed),
		cmocka_unit_test(mounts_are_not_entered),
		cmocka_unit_test(directories_are_made),
		cmocka_unit_test(sizes_of_trees),
		cmocka_unit_test(texts),
		cmocka_unit_test(control_characters_are_replaced),
		cmocka_unit_test(log_lines_cannot_be_forged),
		cmocka_unit_test(errors_grow_from_the_inside),
		cmocka_unit_test(numbers_of_a_status),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
