#include "base/load_counters.h"

#include <stdlib.h>
#include <string.h>

/* The rest of the line that begins with the word; NULL if there is none. */
static const char *load_find_line(const char *text, const char *word)
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
	const char *p = load_find_line(text, "cpu ");
	uint64_t v[FIELDS] = { 0 };
	int n;

	if (!p)
		return -1;
	/* The fields guest and guest_nice follow; their time is already in user and nice. */
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

/* The number of the line that begins with the word. 0 or -1. */
static int load_parse_kib(const char *text, const char *word, uint64_t *out)
{
	const char *p = load_find_line(text, word);
	char *end;

	if (!p)
		return -1;
	*out = strtoull(p, &end, 10);
	return end == p ? -1 : 0;
}

int load_parse_meminfo(const char *text, struct load_counters *c)
{
	if (load_parse_kib(text, "MemTotal:", &c->mem_total) < 0 || c->mem_total == 0)
		return -1;
	return load_parse_kib(text, "MemAvailable:", &c->mem_available);
}

int load_parse_pressure(const char *text, struct load_counters *c)
{
	const char *p = load_find_line(text, "full ");
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
