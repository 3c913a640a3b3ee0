/* What `fsched qualify` makes of data: random moments, comparison, copies, the verdict, and its output. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/qualify/compare_files.h"
#include "cli/qualify/copy_dir.h"
#include "cli/qualify/judge.h"
#include "cli/qualify/moments.h"
#include "cli/qualify/output.h"
#include "scratch.h"

#define HOSTILE "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\033[31m\n\xff"

/* ---- moments ---- */

static void test_moments(void **state)
{
	struct moments_random a = { 7 }, b = { 7 }, c = { 8 };
	int64_t x[50], y[50], z[50], last = 0;

	moments_make(&a, 100000000, 50, x);
	moments_make(&b, 100000000, 50, y);
	moments_make(&c, 100000000, 50, z);
	assert_memory_equal(x, y, sizeof(x));
	assert_memory_not_equal(x, z, sizeof(x));
	for (int i = 0; i < 50; i++) {
		assert_true(x[i] >= 10000000 && x[i] < 75000000 && x[i] >= last);
		last = x[i];
	}
	moments_make(&a, 0, 3, x);
	assert_int_equal(x[2], 0);
}

/* ---- comparison ---- */

static int open_dir(const char *name)
{
	int fd = open(at(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void make_pair(void)
{
	assert_int_equal(scratch_make(0700), 0);
	assert_int_equal(mkdir(at("a"), 0700), 0);
	assert_int_equal(mkdir(at("b"), 0700), 0);
}

static void put_both(const char *name, const char *a, const char *b)
{
	char path[64];

	snprintf(path, sizeof(path), "a/%s", name);
	put_text(at(path), a);
	snprintf(path, sizeof(path), "b/%s", name);
	put_text(at(path), b);
}

static struct compare_result compare(const struct compare_rules *rules)
{
	cleanup_close int a = open_dir("a"), b = open_dir("b");
	const struct compare_rules none = { 0 };
	struct compare_result r = { 0 };
	struct err err;

	assert_int_equal(compare_trees(a, b, "", rules ? rules : &none, &r, &err), 0);
	return r;
}

static void test_compare_same(void **state)
{
	make_pair();
	put_both("x", "one\ntwo\n", "one\ntwo\n");
	put_both("empty", "", "");
	assert_int_equal(symlink("/nowhere", at("a/l")), 0);
	assert_int_equal(symlink("/nowhere", at("b/l")), 0);
	assert_int_equal(compare(NULL).n, 0);
	scratch_remove();
}

static void test_compare_different(void **state)
{
	const char *ignored[] = { "*.log", "sub/time" };
	const struct compare_rules rules = { ignored, 2 };
	struct compare_result r;

	make_pair();
	put_both("x", "one\ntwo\nthree\n", "one\ntwo\nfour\n");
	put_both("cut", "one\ntwo\n", "one\n");
	put_both("binary\n", "a\001b", "a\002b");
	put_both("a.log", "1", "2");
	assert_int_equal(mkdir(at("a/sub"), 0700), 0);
	assert_int_equal(mkdir(at("b/sub"), 0700), 0);
	put_both("sub/time", "1", "2");
	put_text(at("a/gone"), "");
	put_text(at("b/new"), "");
	put_both("mode", "", "");
	assert_int_equal(chmod(at("b/mode"), 0600), 0);
	assert_int_equal(symlink("p", at("a/l")), 0);
	assert_int_equal(symlink("q", at("b/l")), 0);
	put_text(at("a/type"), "");
	assert_int_equal(mkdir(at("b/type"), 0700), 0);
	r = compare(&rules);
	assert_int_equal(r.n, 8);
	assert_string_equal(r.text[0], "binary?: differs from byte 2 on (line 1)");
	assert_string_equal(r.text[1], "cut: differs from byte 5 on; line 2 is the end of the file instead of \"two\"");
	assert_string_equal(r.text[2], "gone: is missing");
	assert_string_equal(r.text[3], "l: is a symbolic link to another place");
	assert_string_equal(r.text[4], "mode: has mode 0600 instead of 0644");
	assert_string_equal(r.text[5], "new: is there, and not in the undisturbed run");
	assert_string_equal(r.text[6], "type: is a file of another type");
	assert_string_equal(r.text[7], "x: differs from byte 9 on; line 3 is \"four\" instead of \"three\"");
	assert_int_equal(compare(NULL).n, 10);
	scratch_remove();
}

/* Over the edge of a block, and with many lines before. */
static void test_compare_large(void **state)
{
	const size_t size = 600000;
	cleanup_free char *text = xmalloc(size + 1);
	struct compare_result r;

	make_pair();
	for (size_t i = 0; i < size; i++)
		text[i] = i % 10 == 9 ? '\n' : 'x';
	text[size] = '\0';
	put_text(at("a/x"), text);
	text[500005] = 'y';
	put_text(at("b/x"), text);
	r = compare(NULL);
	assert_int_equal(r.n, 1);
	assert_string_equal(r.text[0],
			    "x: differs from byte 500006 on; line 50001 is \"xxxxxyxxx\" instead of \"xxxxxxxxx\"");
	scratch_remove();
}

static void test_compare_output(void **state)
{
	static const struct compare_rules none;
	struct compare_result r = { 0 };
	struct err err;

	make_pair();
	cleanup_close int a = open_dir("a"), b = open_dir("b");

	put_both("stderr", "one\ntwo\n",
		 "one\nslurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-11-30T22:00:00 DUE TO JOB REQUEUE ***\ntwo\n");
	assert_int_equal(compare_output(a, b, "stderr", &none, &r, &err), 0);
	assert_int_equal(r.n, 0);
	put_both("stderr", "one\n", "one\nslurmstepd-n1: error: *** JOB 12 ON n1 CANCELLED");
	assert_int_equal(compare_output(a, b, "stderr", &none, &r, &err), 0);
	assert_int_equal(r.n, 0);
	put_both("stderr", "one\n", "one\nslurmstepd: error: Exceeded job memory limit\n");
	assert_int_equal(compare_output(a, b, "stderr", &none, &r, &err), 0);
	assert_int_equal(r.n, 1);
	put_both("stderr", "one\n", "one\nslurmstepd");
	assert_int_equal(compare_output(a, b, "stderr", &none, &r, &err), 0);
	assert_int_equal(r.n, 2);
	r.n = 0;
	put_both("stdout", "one\n", "one\none\n");
	assert_int_equal(compare_output(a, b, "stdout", &none, &r, &err), 0);
	assert_int_equal(r.n, 1);
	assert_int_equal(compare_named(a, b, "stdout", &none, &r, &err), 0);
	assert_int_equal(compare_named(a, b, "nothing", &none, &r, &err), 0);
	assert_int_equal(r.n, 3);
	assert_string_equal(r.text[2], "nothing: is in neither run");
	scratch_remove();
}

/* ---- copies ---- */

static void test_copy(void **state)
{
	struct copy_dir c = { .left = 1000, .skip = "skipped." };
	struct err err;
	struct stat st, to;

	make_pair();
	cleanup_close int a = open_dir("a"), b = open_dir("b");

	put_text(at("a/x"), "text");
	assert_int_equal(chmod(at("a/x"), 04750), 0);
	assert_int_equal(mkdir(at("a/sub"), 0750), 0);
	put_text(at("a/sub/y"), "more");
	assert_int_equal(mkdir(at("a/skipped.1"), 0700), 0);
	assert_int_equal(symlink("/etc/passwd", at("a/l")), 0);
	assert_int_equal(mkfifo(at("a/pipe"), 0600), 0);
	assert_int_equal(copy_dir(&c, a, b, "a", &err), 0);
	assert_int_equal(c.left, 992);
	assert_int_equal(lstat(at("a/x"), &st), 0);
	assert_int_equal(lstat(at("b/x"), &to), 0);
	assert_int_equal(to.st_mode & 07777, 0750);
	assert_int_equal(st.st_mtim.tv_nsec, to.st_mtim.tv_nsec);
	assert_int_equal(lstat(at("b/l"), &to), 0);
	assert_true(S_ISLNK(to.st_mode));
	assert_int_equal(access(at("b/skipped.1"), F_OK), -1);
	assert_int_equal(remove_tree_at(AT_FDCWD, at("a/skipped.1")), 0);
	assert_int_equal(chmod(at("a/x"), 0750), 0);
	assert_int_equal(compare(NULL).n, 0);
	scratch_remove();
}

static void test_copy_limits(void **state)
{
	struct copy_dir c = { .left = 3 };
	struct err err;

	make_pair();
	cleanup_close int a = open_dir("a"), b = open_dir("b");

	put_text(at("a/x"), "text");
	assert_int_equal(copy_dir(&c, a, b, "a", &err), -1);
	assert_int_equal(err.num, EFBIG);
	scratch_remove();
}

/* ---- verdict ---- */

static struct qualify_options options = { .cycles = 2, .seed = 4711, .vacate = true, .failures = true };

static struct qualify_run *add_run(struct qualify_result *r, enum qualify_kind kind)
{
	struct qualify_run *run = &r->runs[r->n_runs++];
	const bool disturbed = kind == QUALIFY_VACATED || kind == QUALIFY_FAILED;

	*run = (struct qualify_run){ .kind = kind,
				     .job = 10 + r->n_runs,
				     .completed = true,
				     .run_s = disturbed ? 106 : 100,
				     .has_record = kind != QUALIFY_PLAIN,
				     .compared = kind ? QUALIFY_SAME : QUALIFY_NOT_COMPARED };
	snprintf(run->state, sizeof(run->state), "completed");
	run->n_cycles = disturbed ? 2 : 0;
	run->cycles = xcalloc(2, sizeof(*run->cycles));
	for (unsigned i = 0; i < run->n_cycles; i++) {
		struct qualify_cycle *c = &run->cycles[i];

		*c = (struct qualify_cycle){ .done = true,
					     .tries = 1,
					     .epoch = i + 1,
					     .at_us = 1000000 * (i + 1),
					     .bytes = 5 << 20,
					     .frozen_us = 30000,
					     .total_us = 200000,
					     .restore_us = 1200000,
					     .lost_us = 1000000 };
		snprintf(c->from, sizeof(c->from), "n1");
		snprintf(c->to, sizeof(c->to), "n%u", 2 - i);
	}
	return run;
}

static struct qualify_result *result(unsigned n_runs)
{
	static const enum qualify_kind kinds[] = { QUALIFY_PLAIN, QUALIFY_POD, QUALIFY_VACATED, QUALIFY_FAILED };
	struct qualify_result *r = xcalloc(1, sizeof(*r));

	r->o = &options;
	r->other_node = true;
	r->max_epochs = 2;
	snprintf(r->script, sizeof(r->script), "heat.sh");
	for (unsigned i = 0; i < n_runs; i++)
		add_run(r, kinds[i]);
	return r;
}

static void differ(struct qualify_run *run)
{
	run->compared = QUALIFY_DIFFERENT;
	run->differences.n = 1;
	snprintf(run->differences.text[0], sizeof(run->differences.text[0]), "x: differs from byte 1 on");
}

static void expect(struct qualify_result *r, enum qualify_verdict v, const char *reason)
{
	bool told = !reason;

	judge(r);
	assert_string_equal(qualify_verdict_name(r->verdict), qualify_verdict_name(v));
	for (unsigned i = 0; i < r->reasons.n; i++)
		told |= reason && strstr(r->reasons.v[i], reason) != NULL;
	assert_true(told);
	assert_true(r->advice.n > 0);
	qualify_free(r);
	free(r);
}

static void test_qualified(void **state)
{
	struct qualify_result *r = result(4);

	judge(r);
	assert_int_equal(r->verdict, QUALIFY_QUALIFIED);
	assert_int_equal(r->reasons.n, 0);
	assert_true(r->moved);
	assert_int_equal(r->frozen.n, 2);
	assert_int_equal(r->total.n, 4);
	assert_int_equal(r->restore.mean, 1200000);
	assert_int_equal(r->slower_ppm, 60000);
	assert_int_equal(r->cycle_cost_us, 3000000);
	qualify_free(r);
	free(r);
}

static void test_undisturbed_runs(void **state)
{
	struct qualify_result *r = result(2);

	differ(&r->runs[1]);
	differ(add_run(r, QUALIFY_AGAIN));
	expect(r, QUALIFY_NOT_DETERMINISTIC, "two undisturbed runs differ");

	r = result(2);
	differ(&r->runs[1]);
	add_run(r, QUALIFY_AGAIN);
	expect(r, QUALIFY_DIFFERS_IN_POD, "without any checkpoint");

	r = result(1);
	r->runs[0].completed = false;
	r->runs[0].wait_status = 3 << 8;
	snprintf(r->runs[0].state, sizeof(r->runs[0].state), "failed");
	expect(r, QUALIFY_PROGRAM_FAILED, "exit status 3");

	r = result(1);
	r->runs[0].trouble = QUALIFY_STOPPED;
	snprintf(r->runs[0].why, sizeof(r->runs[0].why), "it was interrupted");
	expect(r, QUALIFY_UNFINISHED, "interrupted");
}

static void trouble(struct qualify_result *r, unsigned i, enum qualify_trouble t)
{
	r->runs[i].trouble = t;
	r->runs[i].cycles[0].done = r->runs[i].cycles[1].done = false;
	snprintf(r->runs[i].why, sizeof(r->runs[i].why), "process 17 has the device /dev/x open");
}

static void test_disturbed_runs(void **state)
{
	struct qualify_result *r = result(3);

	trouble(r, 2, QUALIFY_REFUSED);
	expect(r, QUALIFY_WAS_REFUSED, "refused before the freeze: process 17");

	r = result(4);
	trouble(r, 3, QUALIFY_NOT_RESTORED);
	expect(r, QUALIFY_WAS_NOT_RESTORED, "not restored: ");

	r = result(4);
	differ(&r->runs[2]);
	expect(r, QUALIFY_DIFFERS, "x: differs from byte 1 on");

	r = result(4);
	r->runs[3].started_over = true;
	expect(r, QUALIFY_WAS_NOT_RESTORED, "started over");

	r = result(4);
	r->runs[2].cycles[0].done = r->runs[2].cycles[1].done = false;
	expect(r, QUALIFY_TOO_SHORT, "before a cycle was possible");

	r = result(3);
	expect(r, QUALIFY_UNFINISHED, NULL);
}

/* ---- output ---- */

static char *print(const struct qualify_result *r, void (*output)(FILE *out, const struct qualify_result *r))
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	output(f, r);
	fclose(f);
	return text;
}

static void test_output(void **state)
{
	struct qualify_result *r = result(4);
	json_t *o;

	differ(&r->runs[2]);
	snprintf(r->runs[2].differences.text[0], sizeof(r->runs[2].differences.text[0]), "%s", HOSTILE);
	snprintf(r->script, sizeof(r->script), "%s", HOSTILE);
	snprintf(r->runs[3].cycles[1].why, sizeof(r->runs[3].cycles[1].why), "%s", HOSTILE);
	r->runs[3].cycles[1].tries = 2;
	judge(r);
	cleanup_free char *page = print(r, output_page), *text = print(r, output_text), *json = NULL;

	assert_non_null(strstr(page, "&lt;script&gt;"));
	assert_null(strstr(page, "<script"));
	assert_null(strstr(page, "<img"));
	assert_null(strchr(page, '\033'));
	assert_null(strchr(text, '\033'));
	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		assert_true(end - line <= 100); /* 80, but for a word that is longer */
	o = output_json(r);
	json = json_dumps(o, 0);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(o, "verdict")), "differs");
	json_decref(o);
	qualify_free(r);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moments),
		cmocka_unit_test(test_compare_same),
		cmocka_unit_test(test_compare_different),
		cmocka_unit_test(test_compare_large),
		cmocka_unit_test(test_compare_output),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_copy_limits),
		cmocka_unit_test(test_qualified),
		cmocka_unit_test(test_undisturbed_runs),
		cmocka_unit_test(test_disturbed_runs),
		cmocka_unit_test(test_output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
