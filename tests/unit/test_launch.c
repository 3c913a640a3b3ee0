/* The launcher's patterns, placement, exit codes and times. */
#include "unit.h"

#include <string.h>
#include <sys/wait.h>

#include "base/util.h"
#include "launch/binding.h"
#include "launch/exits.h"
#include "launch/options.h"
#include "launch/pattern.h"
#include "launch/placement.h"
#include "launch/release.h"
#include "launch/task_env.h"

static const struct pattern_job pattern_job = { .job_id = "12", .job_name = "name", .step_id = 3 };

static const struct pattern_job pattern_job_25_11 = { .job_id = "12",
						      .job_name = "name",
						      .step_id = 3,
						      .sluid = "s1",
						      .since_25_11 = true };

struct pattern_case {
	const char *format;
	enum stream_kind kind;
	const char *name; /* of task 4 for STREAM_EACH */
};

static void check_patterns(const struct pattern_case *cases, size_t n, const struct pattern_job *job)
{
	const struct pattern_task task = { 4, 0, "host", "user" };

	for (size_t i = 0; i < n; i++) {
		struct stream s;

		stream_parse(&s, cases[i].format, 8, job);
		assert_int_equal(s.kind, cases[i].kind);
		if (!cases[i].name) {
			assert_null(s.name);
		} else if (s.kind == STREAM_EACH) {
			cleanup_free char *name = stream_file(&s, &task);

			assert_string_equal(name, cases[i].name);
		} else {
			assert_string_equal(s.name, cases[i].name);
		}
		stream_free(&s);
	}
}

static void patterns(void **state)
{
	static const struct pattern_case cases[] = {
		{ NULL, STREAM_ALL, NULL },
		{ "all", STREAM_ALL, NULL },
		{ "-", STREAM_ALL, NULL },
		{ "none", STREAM_EACH, "/dev/null" },
		{ "out", STREAM_ALL, "out" },
		{ "o%j", STREAM_ALL, "o12" },
		{ "o.%J.%s.%x", STREAM_ALL, "o.12.3.3.name" },
		{ "o%2j-%5s-%a-%A", STREAM_ALL, "o12-00003-4294967294-12" },
		{ "o%4j", STREAM_ALL, "o0012" },
		{ "o%t", STREAM_EACH, "o4" },
		{ "o%3t", STREAM_EACH, "o004" },
		{ "%n.%N.%u.%j", STREAM_EACH, "0.host.user.12" },
		{ "o%%t%t", STREAM_EACH, "o%t4" },
		{ "o%%", STREAM_ALL, "o%" },
		{ "o%%t", STREAM_ALL, "o%t" },
		{ "o%q", STREAM_ALL, "o%q" },
		{ "o%3q.%12q.%3%.%3", STREAM_ALL, "o3q.2q.3%.3" },
		{ "o%3q.%12q.%3.%t", STREAM_EACH, "o3q.2q.3.4" },
		{ "a\\%j", STREAM_ALL, "a%j" },
		{ "8", STREAM_ALL, "8" },
	};

	check_patterns(cases, ARRAY_SIZE(cases), &pattern_job);
}

/* Slurm 25.11 and later: expand_stdio_fields() in src/common/print_fields.c */
static void patterns_since_25_11(void **state)
{
	static const struct pattern_case cases[] = {
		{ "o%2j-%5s-%a-%A", STREAM_ALL, "o12-00003-0-12" },
		{ "o%b.%r.%S", STREAM_ALL, "o0.0.s1" },
		{ "o%3t", STREAM_EACH, "o004" },
		{ "o%%", STREAM_ALL, "o%" },
		{ "o%%t", STREAM_ALL, "o%t" },
		{ "o%%t%t", STREAM_EACH, "o44" },
		{ "o%%j%t", STREAM_EACH, "o124" },
		{ "o%%%%%t", STREAM_EACH, "o%4" },
		{ "o%q", STREAM_ALL, "o%q" },
		{ "o%3q.%12q.%3%.%3", STREAM_ALL, "o%3q.%12q.%3%.%3" },
		{ "o%3q.%12q.%3%.%t", STREAM_EACH, "o%3q.%12q.%3%.4" },
	};

	check_patterns(cases, ARRAY_SIZE(cases), &pattern_job_25_11);
}

static void a_number_is_a_task(void **state)
{
	struct stream s;

	stream_parse(&s, "7", 8, &pattern_job);
	assert_int_equal(s.kind, STREAM_ONE);
	assert_int_equal(s.task, 7);
}

static void times(void **state)
{
	assert_int_equal(options_minutes("5"), 5);
	assert_int_equal(options_minutes("0:02"), 1);
	assert_int_equal(options_minutes("1:30"), 2);
	assert_int_equal(options_minutes("1:00:00"), 60);
	assert_int_equal(options_minutes("1-2"), 26 * 60);
	assert_int_equal(options_minutes("1-2:30"), 26 * 60 + 30);
	assert_int_equal(options_minutes("UNLIMITED"), 0);
	assert_int_equal(options_minutes("x"), -1);
	assert_int_equal(options_minutes("1:"), -1);
	assert_int_equal(options_minutes("1-"), -1);
	assert_int_equal(options_minutes("1:2:3:4"), -1);
}

static void ids(void **state)
{
	const int v[] = { 0, 1, 2, 4, 6, 7 };
	cleanup_free char *text = exits_ids(v, ARRAY_SIZE(v)), *one = exits_ids(v, 1);

	assert_string_equal(text, "0-2,4,6-7");
	assert_string_equal(one, "0");
}

/* Of the exit codes the highest counts, and a signal more than any of them. */
static void exit_codes(void **state)
{
	struct exits e;
	const int zero = 0;

	exits_begin(&e, "node");
	e.few = e.said = true;
	exits_tell(&e, &zero, 1, 0);
	assert_int_equal(exits_code(&e), 0);
	exits_tell(&e, &zero, 1, 5 << 8);
	exits_tell(&e, &zero, 1, 3 << 8);
	assert_int_equal(exits_code(&e), 5);
	exits_tell(&e, &zero, 1, 9);
	assert_int_equal(exits_code(&e), 137);
	exits_tell(&e, &zero, 1, 6);
	assert_int_equal(exits_code(&e), 137);
	assert_true(e.signaled);
}

static void masks(void **state)
{
	cpu_set_t set;
	char *text;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	CPU_SET(5, &set);
	text = placement_mask(&set);
	assert_string_equal(text, "0x21");
	free(text);
	CPU_ZERO(&set);
	text = placement_mask(&set);
	assert_string_equal(text, "0x0");
	free(text);
}

/* A job with the CPUs 2, 3, 6 and 7 of its node. */
static struct job job_of_four(bool binding)
{
	static const size_t cpus[] = { 2, 3, 6, 7 };
	struct job j = { .id = "1", .node = "n", .cpus = 4, .binding = binding };

	for (size_t i = 0; i < ARRAY_SIZE(cpus); i++)
		CPU_SET(cpus[i], &j.allowed);
	return j;
}

static char *mask_of(const struct placement *p, int task)
{
	return placement_mask(&p->v[task].cpus);
}

static void placed(const char *bind, int ntasks, int each, int cpus, const char *const *masks_of)
{
	const struct options o = { .ntasks = ntasks, .cpus_per_task = each, .exact = true, .cpu_bind = bind };
	const struct job j = job_of_four(true);
	struct cpu_list list = { .n = cpus, .index = { 0, 1, 2, 3 } };
	struct placement p;

	placement_count(&p, &o, &j);
	placement_make(&p, &j, &list);
	assert_int_equal(p.ntasks, ntasks);
	for (int i = 0; i < ntasks; i++) {
		cleanup_free char *mask = mask_of(&p, i);

		assert_int_equal(p.v[i].task, i);
		assert_string_equal(mask, masks_of[i]);
	}
	free(p.v);
	free(p.bind.list);
}

static void placement(void **state)
{
	placed(NULL, 4, 0, 4, (const char *const[]){ "0x4", "0x8", "0x40", "0x80" });
	placed(NULL, 2, 2, 4, (const char *const[]){ "0xC", "0xC0" });
	placed("threads", 2, 1, 4, (const char *const[]){ "0x4", "0x8" });
	if (release_since(24, 11)) /* it is ignored */
		placed("rank", 4, 0, 4, (const char *const[]){ "0x4", "0x8", "0x40", "0x80" });
	else
		placed("rank", 2, 1, 4, (const char *const[]){ "0x4", "0x8" });
	placed("none", 2, 1, 4, (const char *const[]){ "0x0", "0x0" });
	placed("map_cpu:7,2", 2, 1, 4, (const char *const[]){ "0x80", "0x4" });
	placed("quiet,mask_cpu:0x44,88", 2, 1, 4, (const char *const[]){ "0x44", "0x88" });
	placed("map_cpu:3*2,6", 3, 1, 4, (const char *const[]){ "0x8", "0x8", "0x40" });
}

static void counts(void **state)
{
	static const struct {
		struct options o;
		int ntasks, cpus;
	} cases[] = {
		{ { 0 }, 1, 4 },
		{ { .ntasks = 3 }, 3, 4 },
		{ { .ntasks = 3, .exact = true }, 3, 3 },
		{ { .cpus_per_task = 2 }, 2, 4 },
		{ { .cpus_per_task = 2, .ntasks = 1 }, 1, 2 },
		{ { .per_node = 2 }, 2, 4 },
		{ { .ntasks = 9, .overcommit = true }, 9, 4 },
	};
	const struct job j = job_of_four(false);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct placement p;

		placement_count(&p, &cases[i].o, &j);
		assert_int_equal(p.ntasks, cases[i].ntasks);
		assert_int_equal(p.cpus, cases[i].cpus);
	}
}

static void environment(void **state)
{
	const struct options all = { 0 }, some = { .export_env = "NEW='a,b',LAUNCH_TEST" },
			     none = { .export_env = "NONE" };
	const struct job j = job_of_four(false);
	struct placement p;
	struct env e = { 0 };

	setenv("LAUNCH_TEST", "x", 1);
	setenv("LAUNCH_OTHER", "y", 1);
	setenv("SLURM_TEST", "z", 1);
	placement_count(&p, &all, &j);
	task_env_of_step(&e, &all, &j, &p, 5);
	assert_string_equal(env_get(&e, "LAUNCH_OTHER"), "y");
	assert_string_equal(env_get(&e, "SLURM_STEP_ID"), "5");
	assert_string_equal(env_get(&e, "SLURM_DISTRIBUTION"), "cyclic");
	env_free(&e);
	task_env_of_step(&e, &some, &j, &p, 5);
	assert_string_equal(env_get(&e, "NEW"), "a,b");
	assert_string_equal(env_get(&e, "LAUNCH_TEST"), "x");
	assert_string_equal(env_get(&e, "SLURM_TEST"), "z");
	assert_null(env_get(&e, "LAUNCH_OTHER"));
	env_free(&e);
	task_env_of_step(&e, &none, &j, &p, 5);
	assert_null(env_get(&e, "LAUNCH_TEST"));
	assert_string_equal(env_get(&e, "SLURM_TEST"), "z");
	env_unset(&e, "SLURM_TEST");
	assert_null(env_get(&e, "SLURM_TEST"));
	env_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns),
		cmocka_unit_test(patterns_since_25_11),
		cmocka_unit_test(a_number_is_a_task),
		cmocka_unit_test(times),
		cmocka_unit_test(ids),
		cmocka_unit_test(exit_codes),
		cmocka_unit_test(masks),
		cmocka_unit_test(placement),
		cmocka_unit_test(counts),
		cmocka_unit_test(environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
