/* Which CPUs bound threads get when the job has others than at the checkpoint. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "policy/cpu_binding.h"

static json_t *threads;
static struct cpu_binding b;

static void read_threads(const char *text)
{
	threads = json_loads(text, 0, NULL);
	assert_non_null(threads);
	cpu_binding_read(&b, threads);
}

static void forget(void)
{
	cpu_binding_free(&b);
	json_decref(threads);
}

/* "3", "2,5": the CPUs that the i-th thread gets of those in now. */
static const char *gets(size_t i, const char *now, char *buf, size_t len)
{
	cpu_set_t *have = CPU_ALLOC(CPU_BINDING_MAX), *set = CPU_ALLOC(CPU_BINDING_MAX);
	const json_t *o = json_array_get(json_object_get(threads, "list"), i);
	size_t n = 0;

	CPU_ZERO_S(CPU_BINDING_SIZE, have);
	for (const char *p = now; *p; p++)
		CPU_SET_S((size_t)(*p - '0'), CPU_BINDING_SIZE, have);
	*buf = '\0';
	if (cpu_binding_map(&b, json_object_get(o, "cpus"), have, set))
		for (size_t c = 0; c < 10; c++)
			if (CPU_ISSET_S(c, CPU_BINDING_SIZE, set))
				n += (size_t)snprintf(buf + n, len - n, "%s%zu", n ? "," : "", c);
	CPU_FREE(have);
	CPU_FREE(set);
	return buf;
}

static void expect(size_t thread, const char *now, const char *want)
{
	char buf[64];

	assert_string_equal(gets(thread, now, buf, sizeof(buf)), want);
}

/* One thread for each CPU, as OMP_PROC_BIND makes them. */
static void a_thread_for_each(void **state)
{
	read_threads("{\"cpus\":[2,3,6],\"list\":[{\"cpus\":[3]},{\"cpus\":[2]},{\"cpus\":[6]},{\"ioprio\":4}]}");
	assert_int_equal(b.need, 3);
	assert_int_equal(b.bound, 3);
	expect(0, "0459", "4"); /* by position: more CPUs than then */
	expect(1, "0459", "0");
	expect(2, "045", "5");
	expect(2, "", "");
	forget();
}

/* Positions would put both on the first CPU. */
static void few_threads_on_few_cpus(void **state)
{
	read_threads("{\"cpus\":[0,1,2,3],\"list\":[{\"cpus\":[0]},{\"cpus\":[2]},{\"cpus\":[2]}]}");
	assert_int_equal(b.need, 2);
	expect(0, "57", "5");
	expect(1, "57", "7");
	expect(2, "57", "7");
	expect(1, "4567", "6");
	forget();
}

/* Cores of two CPUs each, and a thread for all of them. */
static void cores(void **state)
{
	read_threads("{\"cpus\":[0,1,2,3,4,5],\"list\":[{\"cpus\":[0,1,2,3]},{\"cpus\":[0,1]},{\"cpus\":[2,3]}]}");
	assert_int_equal(b.need, 2);
	assert_int_equal(b.bound, 4);
	expect(1, "012345", "0,1");
	expect(2, "0123", "2,3");
	expect(1, "89", "8,9");
	expect(0, "8", "8");
	forget();
}

/* A thread that is bound to a single CPU keeps one of its own, although another's CPUs come before it in the list. */
static void single_ones_come_first(void **state)
{
	read_threads("{\"cpus\":[0,1,2,3,4,5],\"list\":[{\"cpus\":[0,1,2,3]},{\"cpus\":[4]},{\"cpus\":[0]}]}");
	assert_int_equal(b.need, 2);
	expect(1, "12", "2");
	expect(2, "12", "1");
	forget();
}

static void nonsense(void **state)
{
	read_threads(
		"{\"cpus\":[0,\"x\",-1,99999,1,1],\"list\":[{\"cpus\":[7]},{\"cpus\":[\"x\",-1,99999]},{\"cpus\":7}]}");
	assert_int_equal(b.n_then, 2);
	assert_int_equal(b.need, 0);
	expect(0, "01", "");
	expect(1, "0", "");
	forget();
	cpu_binding_read(&b, NULL);
	assert_int_equal(b.need, 0);
	cpu_binding_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_for_each),
		cmocka_unit_test(few_threads_on_few_cpus),
		cmocka_unit_test(cores),
		cmocka_unit_test(single_ones_come_first),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
