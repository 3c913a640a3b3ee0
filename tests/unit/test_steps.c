#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir_tree.h"
#include "base/util.h"
#include "store/steps.h"

static struct step_file file;
static struct job_steps taken;

static void note(unsigned n, const char *name, int status)
{
	struct step_file_entry *e = &file.v[n % STEP_FILE_KEPT];

	*e = (struct step_file_entry){ .began = 1000 + n, .ended = 1010 + n, .step = (int)n, .ntasks = 2, .status = status };
	strncpy(e->name, name, sizeof(e->name));
	file.head = (struct step_file_header){ STEP_FILE_MAGIC, 1, n + 1, 0 };
}

static void keeps_the_last_in_order(void **state)
{
	memset(&file, 0, sizeof(file));
	for (unsigned n = 0; n < STEP_FILE_KEPT + 7; n++)
		note(n, "a.out", n % 2 ? 3 << 8 : 0);
	steps_take(&taken, &file, sizeof(file));
	assert_int_equal(taken.ended, STEP_FILE_KEPT + 7);
	assert_int_equal(taken.running, 1);
	assert_int_equal(taken.n, STEP_FILE_KEPT);
	for (unsigned i = 0; i < taken.n; i++)
		assert_int_equal(taken.v[i].step, i + 7);
}

static void a_users_file_may_say_anything(void **state)
{
	memset(&file, 0xff, sizeof(file));
	steps_take(&taken, &file, sizeof(file));
	assert_int_equal(taken.n, 0);
	file.head.magic = STEP_FILE_MAGIC;
	memset(file.v[3].name, '\033', sizeof(file.v[3].name));
	steps_take(&taken, &file, sizeof(file));
	assert_int_equal(taken.n, STEP_FILE_KEPT);
	for (unsigned i = 0; i < taken.n; i++) {
		assert_true(taken.v[i].step >= 0 && taken.v[i].ntasks >= 0 && taken.v[i].ended >= taken.v[i].began);
		for (const char *p = taken.v[i].name; *p; p++)
			assert_true(*p >= ' ' && *p <= '~');
	}
	for (size_t len = 0; len < sizeof(file.head) + 2 * sizeof(file.v[0]); len++)
		steps_take(&taken, &file, len);
}

static void comes_back_as_written(void **state)
{
	char path[] = "/tmp/fsched-steps.XXXXXX";
	struct store s = { .epochsfd = -1 };
	struct job_steps back;
	struct err err;

	assert_non_null(mkdtemp(path));
	assert_int_equal(chmod(path, 0711), 0);
	snprintf(s.path, sizeof(s.path), "%s", path);
	s.dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(&file, 0, sizeof(file));
	note(0, "first\nline", 0);
	note(1, "se\"cond", 9);
	steps_take(&taken, &file, sizeof(file));
	assert_int_equal(steps_save(&s, getuid() ? getuid() : 1, &taken, &err), 0);
	for (int copy = 0; copy < 2; copy++) {
		assert_int_equal(steps_load(path, copy, &back, &err), 0);
		assert_int_equal(back.ended, 2);
		assert_int_equal(back.n, 2);
		assert_string_equal(back.v[0].name, "first?line");
		assert_string_equal(back.v[1].name, "se\"cond");
		assert_int_equal(back.v[1].status, 9);
		assert_int_equal(back.v[1].ended - back.v[1].began, 10);
	}
	steps_remove(&s);
	assert_int_equal(steps_load(path, false, &back, &err), -1);
	assert_int_equal(steps_load(path, true, &back, &err), -1);
	close(s.dirfd);
	assert_int_equal(remove_tree_at(AT_FDCWD, path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_last_in_order),
		cmocka_unit_test(a_users_file_may_say_anything),
		cmocka_unit_test(comes_back_as_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
