#include "policy/cpu_binding.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* The number of the CPU if it was one of the job's, else -1. */
static int binding_number(const struct cpu_binding *b, const json_t *cpu)
{
	const json_int_t c = json_integer_value(cpu);

	return json_is_integer(cpu) && c >= 0 && c < CPU_BINDING_MAX && b->place[c] >= 0 ? (int)c : -1;
}

static void binding_read_then(struct cpu_binding *b, const json_t *then)
{
	const json_t *cpu;
	size_t i;

	json_array_foreach(then, i, cpu) {
		const json_int_t c = json_integer_value(cpu);

		if (json_is_integer(cpu) && c >= 0 && c < CPU_BINDING_MAX && b->place[c] < 0)
			b->place[c] = b->n_then++;
	}
}

/* By size, then by the first CPU. */
static int binding_compare(const void *a, const void *b)
{
	const json_t *const *x = a, *const *y = b;
	const json_int_t by_size = (json_int_t)json_array_size(*x) - (json_int_t)json_array_size(*y),
			 by_cpu = json_integer_value(json_array_get(*x, 0)) - json_integer_value(json_array_get(*y, 0));

	return by_size ? (by_size > 0) - (by_size < 0) : (by_cpu > 0) - (by_cpu < 0);
}

/* The lists of CPUs of all bound threads, the shortest first. The caller frees it. */
static const json_t **binding_lists(const json_t *list, size_t *n)
{
	const json_t **lists = xcalloc(json_array_size(list) + 1, sizeof(*lists)), *o;
	size_t i;

	*n = 0;
	json_array_foreach(list, i, o)
		if (json_object_get(o, "cpus"))
			lists[(*n)++] = json_object_get(o, "cpus");
	qsort(lists, *n, sizeof(*lists), binding_compare);
	return lists;
}

/* Numbers the CPUs of a thread. Returns true if no thread before had any of them. */
static bool binding_count(struct cpu_binding *b, const json_t *cpus)
{
	const json_t *cpu;
	bool any = false, apart = true;
	size_t i;

	json_array_foreach(cpus, i, cpu) {
		const int c = binding_number(b, cpu);

		if (c < 0)
			continue;
		any = true;
		if (b->order[c] >= 0)
			apart = false;
		else
			b->order[c] = b->bound++;
	}
	return any && apart;
}

void cpu_binding_read(struct cpu_binding *b, const json_t *threads)
{
	const size_t size = CPU_BINDING_MAX * sizeof(*b->place);
	cleanup_free const json_t **lists = NULL;
	size_t n;

	*b = (struct cpu_binding){ .place = xcalloc(1, size), .order = xcalloc(1, size) };
	memset(b->place, -1, size);
	memset(b->order, -1, size);
	binding_read_then(b, json_object_get(threads, "cpus"));
	lists = binding_lists(json_object_get(threads, "list"), &n);
	for (size_t i = 0; i < n; i++)
		b->need += binding_count(b, lists[i]);
}

void cpu_binding_free(struct cpu_binding *b)
{
	free(b->place);
	free(b->order);
	b->place = b->order = NULL;
}

/* The number of the n-th CPU of a set that has so many. */
static int binding_nth(const cpu_set_t *set, int n)
{
	int c = 0;

	for (; !CPU_ISSET_S((size_t)c, CPU_BINDING_SIZE, set) || n-- > 0; c++)
		;
	return c;
}

bool cpu_binding_map(const struct cpu_binding *b, const json_t *cpus, const cpu_set_t *now, cpu_set_t *set)
{
	const int n_now = CPU_COUNT_S(CPU_BINDING_SIZE, now);
	const int *index = n_now < b->n_then ? b->order : b->place;
	const json_t *cpu;
	bool any = false;
	size_t i;

	CPU_ZERO_S(CPU_BINDING_SIZE, set);
	json_array_foreach(cpus, i, cpu) {
		const int c = binding_number(b, cpu);

		if (c < 0 || !n_now)
			continue;
		CPU_SET_S((size_t)binding_nth(now, index[c] % n_now), CPU_BINDING_SIZE, set);
		any = true;
	}
	return any;
}
