#include "cli/report/metrics_text.h"

#include <inttypes.h>

#include "cli/report/metrics_families.h"

static void text_family(void *arg, const char *name, const char *type, const char *help)
{
	fprintf(arg, "# HELP " METRICS_PREFIX "%s %s\n# TYPE " METRICS_PREFIX "%s %s\n", name, help, name, type);
}

static void text_label(FILE *out, const struct metrics_label *l)
{
	fprintf(out, "%s=\"", l->name);
	for (const char *c = l->value; *c; c++) {
		if (*c == '\\' || *c == '"')
			fputc('\\', out);
		if (*c == '\n')
			fputs("\\n", out);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

static void text_sample(void *arg, const char *name, const char *suffix, const struct metrics_label *labels, size_t n,
			struct metrics_value v)
{
	fprintf(arg, METRICS_PREFIX "%s%s", name, suffix);
	for (size_t i = 0; i < n; i++) {
		fputc(i ? ',' : '{', arg);
		text_label(arg, &labels[i]);
	}
	fprintf(arg, "%s %" PRIu64, n ? "}" : "", v.whole);
	if (v.decimal)
		fprintf(arg, ".%06u", v.millionths);
	fputc('\n', arg);
}

void metrics_print(const struct metrics *m, FILE *out)
{
	const struct metrics_sink sink = { .arg = out, .family = text_family, .sample = text_sample };

	metrics_walk(m, &sink);
}
