/* Threads of a job that are bound to some of its CPUs, when the job is restored and has other CPUs: whether these are
 * enough, and which thread gets which. Pure. */
#ifndef FSCHED_POLICY_CPU_BINDING_H
#define FSCHED_POLICY_CPU_BINDING_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>

#define CPU_BINDING_MAX  16384 /* numbers of CPUs are below */
#define CPU_BINDING_SIZE CPU_ALLOC_SIZE(CPU_BINDING_MAX)

struct cpu_binding {
	int n_then; /* CPUs of the job at the checkpoint */
	int bound;  /* the different ones among them to which threads are bound */
	int need; /* CPUs without which threads share one that did not before: of threads that could use none in common
		   */
	int *place; /* owned: by number of the CPU, its position among those of the job; -1 = it is none of them */
	int *order; /* owned: the same among the bound ones, where those of threads bound to a single CPU come first */
};

/* threads: the member "threads" of a manifest (worker/thread_attributes.c). The caller frees b. */
void cpu_binding_read(struct cpu_binding *b, const json_t *threads);
void cpu_binding_free(struct cpu_binding *b);

/* Sets *set to the CPUs of now in place of those that cpus, "cpus" of a thread, names of then: the n-th CPU of the job
 * becomes the n-th one now. If the job has fewer now, only those to which threads are bound are counted, so that
 * threads that shared no CPU share none as long as there are enough. False: none is left. Sets have CPU_BINDING_SIZE.
 */
bool cpu_binding_map(const struct cpu_binding *b, const json_t *cpus, const cpu_set_t *now, cpu_set_t *set);

#endif
