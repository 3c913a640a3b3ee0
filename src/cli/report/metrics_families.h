/* The metrics of `fsched metrics` one after the other, for every form in which it prints them. */
#ifndef FSCHED_CLI_REPORT_METRICS_FAMILIES_H
#define FSCHED_CLI_REPORT_METRICS_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cli/report/metrics_data.h"

#define METRICS_PREFIX "fsched_" /* of all names, which are given without it */

struct metrics_label {
	const char *name, *value; /* without control characters */
};

struct metrics_value {
	uint64_t whole;
	unsigned millionths;
	bool decimal; /* else millionths is 0 */
};

struct metrics_sink {
	void *arg;
	/* Begins a family. type: counter, gauge or histogram, as in the text format of Prometheus. */
	void (*family)(void *arg, const char *name, const char *type, const char *help);
	/* One number of the family that was begun last. suffix: "", or "_bucket", "_sum", "_count" of a histogram. */
	void (*sample)(void *arg, const char *name, const char *suffix, const struct metrics_label *labels, size_t n,
		       struct metrics_value v);
};

void metrics_walk(const struct metrics *m, const struct metrics_sink *sink);

#endif
