#include "policy/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parsing ----------------------------------------------------------- */

/* The line that begins with the word, behind the word; NULL if there is none. */
static const char *find_line(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, word, n) == 0)
			return line + n;
	}
	return NULL;
}

int load_parse_stat(const char *text, struct load_counters *c)
{
	enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, FIELDS };
	const char *p = find_line(text, "cpu ");
	uint64_t v[FIELDS] = { 0 };
	int n;

	if (!p)
		return -1;
	/* guest and guest_nice follow; user and nice already hold them. */
	for (n = 0; n < FIELDS; n++) {
		char *end;

		v[n] = strtoull(p, &end, 10);
		if (end == p)
			break;
		p = end;
	}
	if (n <= IDLE)
		return -1;
	c->busy = v[USER] + v[NICE] + v[SYSTEM] + v[IRQ] + v[SOFTIRQ];
	c->idle = v[IDLE];
	c->iowait = v[IOWAIT];
	c->steal = v[STEAL];
	c->cpus = 0;
	for (p = strchr(text, '\n'); p; p = strchr(p + 1, '\n')) {
		if (strncmp(p + 1, "cpu", 3) == 0 && p[4] >= '0' && p[4] <= '9')
			c->cpus++;
	}
	return c->cpus > 0 ? 0 : -1;
}

static int parse_kib(const char *text, const char *word, uint64_t *out)
{
	const char *p = find_line(text, word);
	char *end;

	if (!p)
		return -1;
	*out = strtoull(p, &end, 10);
	return end == p ? -1 : 0;
}

int load_parse_meminfo(const char *text, struct load_counters *c)
{
	if (parse_kib(text, "MemTotal:", &c->mem_total) < 0 || c->mem_total == 0)
		return -1;
	return parse_kib(text, "MemAvailable:", &c->mem_available);
}

int load_parse_pressure(const char *text, struct load_counters *c)
{
	const char *p = find_line(text, "full ");
	const char *total = p ? strstr(p, "total=") : NULL;
	char *end;

	c->psi_full = -1;
	if (!total)
		return -1;
	c->psi_full = strtoll(total + 6, &end, 10);
	if (end == total + 6 || c->psi_full < 0) {
		c->psi_full = -1;
		return -1;
	}
	return 0;
}

/* ---- the formula ------------------------------------------------------- */

static double clip(double x)
{
	return x > 0 ? (x < 1 ? x : 1) : 0; /* a nan becomes 0 */
}

/* Some counters of /proc/stat can run backwards (iowait does). */
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
		/* From shares, not from ticks over the window: the shares add up
		 * to the CPUs also where a tickless CPU accounts late. */
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
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
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
