#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/dir_tree.h"
#include "base/io.h"
#include "base/util.h"
#include "store/lease.h"

static const char HOST[] = "n1";

static int scratch(char *path)
{
	int fd;

	strcpy(path, "/tmp/fsched-lease.XXXXXX");
	assert_non_null(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void drop(int fd, const char *path)
{
	close(fd);
	assert_int_equal(remove_tree_at(AT_FDCWD, path), 0);
}

static void comes_back_as_written(void **state)
{
	struct lease l = { .restart_count = 3, .duration = 20 }, got;
	char path[64];
	int dir = scratch(path);
	struct err err;
	bool exists;

	assert_int_equal(lease_read(dir, &got, &exists, &err), 0);
	assert_false(exists);
	assert_int_equal(lease_describe_self(&l, HOST, &err), 0);
	assert_int_equal(lease_write(dir, &l, &err), 0);
	assert_int_equal(lease_read(dir, &got, &exists, &err), 0);
	assert_true(exists);
	assert_string_equal(got.host, HOST);
	assert_string_equal(got.boot_id, l.boot_id);
	assert_int_equal(got.restart_count, 3);
	assert_int_equal(got.duration, 20);
	assert_false(got.released);
	assert_true(lease_holder_lives(&got));
	l.released = true;
	assert_int_equal(lease_write(dir, &l, &err), 0);
	assert_int_equal(lease_read(dir, &got, &exists, &err), 0);
	assert_true(got.released);
	drop(dir, path);
}

static void is_renewed_by_its_holder(void **state)
{
	struct lease l = { .restart_count = 1, .duration = 20 };
	struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct stat st;
	char path[64];
	int dir = scratch(path);
	struct err err;

	assert_int_equal(lease_describe_self(&l, HOST, &err), 0);
	assert_int_equal(lease_write(dir, &l, &err), 0);
	assert_int_equal(utimensat(dir, "lease", old, 0), 0);
	assert_int_equal(lease_renew(dir, &l, &err), 0);
	assert_int_equal(fstatat(dir, "lease", &st, 0), 0);
	assert_true(st.st_mtime > 1);
	drop(dir, path);
}

static void a_damaged_one_is_somebodys(void **state)
{
	static const char *const texts[] = { "", "{", "[]", "{\"host\":1}", "{\"host\":\"n1\",\"boot_id\":\"x\"}" };
	char path[64];
	int dir = scratch(path);

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct lease got;
		struct err err;
		bool exists = false;

		assert_int_equal(write_file_atomic(dir, "lease", 0600, 0, texts[i], strlen(texts[i])), 0);
		assert_int_equal(lease_read(dir, &got, &exists, &err), 0);
		assert_true(exists);
		assert_false(got.released);
	}
	drop(dir, path);
}

static void a_dead_holder_is_dead(void **state)
{
	struct lease l = { 0 };
	struct err err;
	pid_t pid;

	assert_int_equal(lease_describe_self(&l, HOST, &err), 0);
	/* the pid is there, but it is not the same process */
	l.pid_start--;
	assert_false(lease_holder_lives(&l));
	pid = fork();
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	l.pid = pid;
	assert_false(lease_holder_lives(&l));
	/* pids of another namespace say nothing */
	l.pid_ns++;
	assert_true(lease_holder_lives(&l));
}

static void claims_tell_age_and_rank(void **state)
{
	struct lease l = { .restart_count = 1, .duration = 20 };
	const struct timespec old[2] = { { .tv_sec = time(NULL) - 100 }, { .tv_sec = time(NULL) - 100 } };
	struct lease_age age;
	char path[64], host[256];
	int dir = scratch(path);
	struct err err;
	bool claimed;

	assert_int_equal(lease_claimed(dir, 0, &claimed, host, &err), 0);
	assert_false(claimed);
	assert_int_equal(lease_claim(dir, "n2", 2, &age, &err), 0);
	assert_int_equal(age.ms, 0); /* there is no lease */
	assert_int_equal(lease_describe_self(&l, HOST, &err), 0);
	assert_int_equal(lease_write(dir, &l, &err), 0);
	assert_int_equal(lease_claim(dir, "n2", 2, &age, &err), 0);
	assert_in_range(age.ms, 0, 60000);
	assert_int_equal(utimensat(dir, "lease", old, 0), 0);
	assert_int_equal(lease_claim(dir, "n2", 2, &age, &err), 0);
	assert_in_range(age.ms, 99000, 160000);
	assert_int_equal(lease_claimed(dir, 1, &claimed, host, &err), 0);
	assert_true(claimed);
	assert_string_equal(host, "n2");
	assert_int_equal(lease_claimed(dir, 2, &claimed, host, &err), 0);
	assert_false(claimed); /* our own */
	drop(dir, path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back_as_written),      cmocka_unit_test(is_renewed_by_its_holder),
		cmocka_unit_test(a_damaged_one_is_somebodys), cmocka_unit_test(a_dead_holder_is_dead),
		cmocka_unit_test(claims_tell_age_and_rank),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
