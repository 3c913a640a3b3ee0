#include "policy/load.h"

#include <stdio.h>

#include "base/util.h"

/* ---- the formula ------------------------------------------------------- */

static double clip(double x)
{
	return x > 0 ? (x < 1 ? x : 1) : 0; /* NaN becomes 0 */
}

/* Growth of a counter, 0 if it has decreased: the kernel does not guarantee that the iowait counter never does. */
static double grown(uint64_t begin, uint64_t end)
{
	return end > begin ? (double)(end - begin) : 0;
}

static double jobs_within_allocation(const struct load_job *jobs, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += jobs[i].used < jobs[i].allocated ? jobs[i].used : jobs[i].allocated;
	return sum;
}

/* Arguments and names as in load.h; online is N, busy is B, jobs is J. */
static double cpu_load(double online, double busy, double jobs)
{
	double left;

	if (jobs > online)
		jobs = online;
	left = online - jobs;
	if (left < online / 20)
		left = online / 20;
	if (left < 0.5)
		left = 0.5;
	return clip((busy - jobs) / left);
}

static double all_ticks(const struct load_counters *begin, const struct load_counters *end)
{
	return grown(begin->busy, end->busy) + grown(begin->idle, end->idle) + grown(begin->iowait, end->iowait) +
	       grown(begin->steal, end->steal);
}

double load_window_ticks(const struct load_counters *begin, const struct load_counters *end)
{
	return end->cpus ? all_ticks(begin, end) / end->cpus : 0;
}

void load_compute(const struct load_counters *begin, const struct load_counters *end, const struct load_job *jobs,
		  size_t n_jobs, struct load *out)
{
	double window = (double)(end->at - begin->at) / 1e6;
	double busy = grown(begin->busy, end->busy), iowait = grown(begin->iowait, end->iowait);
	double steal = grown(begin->steal, end->steal), total = all_ticks(begin, end);
	double stalled = 0;

	*out = (struct load){ 0 };
	if (total > 0 && window > 0) {
		/* Shares of all ticks, not ticks per length of the window: a tickless CPU may account its time late,
		 * but the shares always add up to the number of CPUs. */
		double online = end->cpus * (total - steal) / total;

		out->cpu = cpu_load(online, end->cpus * busy / total, jobs_within_allocation(jobs, n_jobs));
		if (begin->psi_full >= 0 && end->psi_full >= begin->psi_full)
			stalled = (double)(end->psi_full - begin->psi_full) / 1e6 / window;
		out->io = clip(iowait / total > stalled ? iowait / total : stalled);
	}
	if (end->mem_total > 0)
		out->memory = clip(1 - (double)end->mem_available / (double)end->mem_total);
}

/* ---- the verdict ------------------------------------------------------- */

enum load_verdict load_decide(const struct load_thresholds *t, const struct load *l, char *text, size_t len)
{
	const struct {
		const char *what, *key;
		double is, most;
		enum load_verdict verdict;
	} checks[] = {
		{ "CPU load", "CRIU_LoadThresholdCPU", l->cpu, t->cpu, LOAD_HIGH_CPU },
		{ "I/O wait", "CRIU_LoadThresholdIO", l->io, t->io, LOAD_HIGH_IO },
		{ "memory use", "CRIU_LoadThresholdMemory", l->memory, t->memory, LOAD_HIGH_MEMORY },
	};
	enum load_verdict first = LOAD_GO;
	size_t used = 0;

	if (len > 0)
		*text = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		if (!(checks[i].is > checks[i].most))
			continue;
		if (used < len)
			used += (size_t)snprintf(text + used, len - used, "%s%s %.3g above %s %.3g", first ? ", " : "",
						 checks[i].what, checks[i].is, checks[i].key, checks[i].most);
		if (first == LOAD_GO)
			first = checks[i].verdict;
	}
	return first;
}
