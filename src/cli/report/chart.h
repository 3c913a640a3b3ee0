/* Line charts over time, as SVG that is as wide as its place. */
#ifndef FSCHED_CLI_REPORT_CHART_H
#define FSCHED_CLI_REPORT_CHART_H

#include <stdint.h>
#include <stdio.h>

#define CHART_SERIES 2

struct chart_point {
	int64_t time; /* Unix */
	double value[CHART_SERIES];
	char about[96]; /* shown when the pointer rests on it; any text */
};

struct chart {
	const char *title;                /* a literal */
	const char *series[CHART_SERIES]; /* their names, literals; NULL = there is no second one */
	/* A value as text; buf has 32 bytes. Returns buf. */
	char *(*format)(double value, char *buf);
	double unit; /* of the axis: 1, or 1024 for sizes, of whose powers its ends are round multiples */
	const struct chart_point *v;
	unsigned n;
	int64_t from, to; /* Unix, to > from */
};

void chart_print(FILE *out, const struct chart *c);
/* The smallest of 1, 2, 2.5, 5, 10 times a power of 10 that is not below value; 1 for 0 and less. */
double chart_round_up(double value);

#endif
