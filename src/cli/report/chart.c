#include "cli/report/chart.h"

#include "base/util.h"
#include "cli/report/html.h"

#define CHART_HEIGHT 110 /* px */
#define CHART_TOP    14  /* px above the plot, for the upper label */

double chart_round_up(double value)
{
	static const double steps[] = { 1, 2, 2.5, 5, 10 };
	double power = 1;

	if (!(value > 0))
		return 1;
	while (power * 10 <= value)
		power *= 10;
	while (power > value)
		power /= 10;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i] * power >= value)
			return steps[i] * power;
	return value;
}

static double chart_top(const struct chart *c)
{
	double most = 0, unit = 1;

	for (unsigned i = 0; i < c->n; i++)
		for (unsigned s = 0; s < CHART_SERIES && c->series[s]; s++)
			most = c->v[i].value[s] > most ? c->v[i].value[s] : most;
	if (c->unit <= 1)
		return chart_round_up(most);
	while (unit * c->unit <= most)
		unit *= c->unit;
	return chart_round_up(most / unit) * unit;
}

static double chart_x(const struct chart *c, unsigned i) /* percent */
{
	const double x = (double)(c->v[i].time - c->from) * 100 / (double)(c->to - c->from);

	return x < 0 ? 0 : x > 100 ? 100 : x;
}

static double chart_y(double value, double top) /* px */
{
	return CHART_TOP + (CHART_HEIGHT - CHART_TOP) * (1 - value / top);
}

static void chart_grid(FILE *out, double top)
{
	for (int i = 0; i <= 2; i++) {
		const double y = chart_y(top * i / 2, top);

		fprintf(out, "<line class=\"grid\" x1=\"0\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\"/>", y, y);
	}
}

/* On top of the curve. */
static void chart_labels(FILE *out, const struct chart *c, double top)
{
	char text[32];

	for (int i = 1; i <= 2; i++)
		fprintf(out, "<text x=\"0\" y=\"%.1f\">%s</text>", chart_y(top * i / 2, top) - 3,
			c->format(top * i / 2, text));
}

/* In a coordinate system of its own that is stretched, because a polyline takes no percentages. */
static void chart_curve(FILE *out, const struct chart *c, unsigned s, double top)
{
	fprintf(out,
		"<svg x=\"0\" y=\"0\" width=\"100%%\" height=\"%d\" viewBox=\"0 0 100 %d\" preserveAspectRatio=\"none\">"
		"<polyline class=\"curve%s\" points=\"",
		CHART_HEIGHT, CHART_HEIGHT, s ? " two" : "");
	for (unsigned i = 0; i < c->n; i++)
		fprintf(out, "%s%.3f,%.1f", i ? " " : "", chart_x(c, i), chart_y(c->v[i].value[s], top));
	fputs("\"/></svg>", out);
}

static void chart_dots(FILE *out, const struct chart *c, unsigned s, double top)
{
	for (unsigned i = 0; i < c->n; i++) {
		fprintf(out, "<circle class=\"dot%s\" cx=\"%.3f%%\" cy=\"%.1f\" r=\"%s\"><title>", s ? " two" : "",
			chart_x(c, i), chart_y(c->v[i].value[s], top), c->n > 60 ? "1.5" : "3");
		html_text(out, c->v[i].about);
		fputs("</title></circle>\n", out);
	}
}

static void chart_caption(FILE *out, const struct chart *c)
{
	fprintf(out, "<figcaption>%s", c->title);
	for (unsigned s = 0; s < CHART_SERIES && c->series[1]; s++)
		fprintf(out,
			"%s<svg style=\"display:inline-block\" width=\"10\" height=\"10\"><circle class=\"dot%s\" cx=\"5\" cy=\"5\" r=\"4\"/></svg> %s",
			s ? ", " : ": ", s ? " two" : "", c->series[s]);
	fputs("</figcaption>\n", out);
}

void chart_print(FILE *out, const struct chart *c)
{
	const double top = chart_top(c);

	fputs("<figure>", out);
	chart_caption(out, c);
	fprintf(out, "<svg width=\"100%%\" height=\"%d\" role=\"img\" aria-label=\"%s\">", CHART_HEIGHT + 4, c->title);
	chart_grid(out, top);
	for (unsigned s = 0; s < CHART_SERIES && c->series[s]; s++) {
		chart_curve(out, c, s, top);
		chart_dots(out, c, s, top);
	}
	chart_labels(out, c, top);
	fputs("</svg></figure>\n", out);
}
