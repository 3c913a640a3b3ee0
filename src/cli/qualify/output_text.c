#include "cli/qualify/output.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/qualify/judge.h"

#define OUTPUT_COLUMNS 80

const char *output_compared(const struct qualify_run *run)
{
	if (run->kind == QUALIFY_PLAIN)
		return run->completed ? "reference" : "-";
	return run->compared == QUALIFY_SAME ? "same" : run->compared == QUALIFY_DIFFERENT ? "different" : "-";
}

char *output_cycles(const struct qualify_result *r, const struct qualify_run *run, char *buf, size_t len)
{
	if (run->kind == QUALIFY_VACATED || run->kind == QUALIFY_FAILED)
		snprintf(buf, len, "%u of %u", qualify_cycles_done(run), r->o->cycles);
	else
		snprintf(buf, len, "-");
	return buf;
}

char *output_slow_down(const struct qualify_result *r, char *buf, size_t len)
{
	char cost[24];

	if (r->slower_ppm == INT64_MIN)
		snprintf(buf, len, "not measured: it needs a run of at least %d s", JUDGE_MEASURABLE_S);
	else
		snprintf(buf, len, "%.1f %%, %s%s for each cycle", (double)r->slower_ppm / 1e4,
			 r->cycle_cost_us < 0 ? "-" : "",
			 format_duration(r->cycle_cost_us < 0 ? -r->cycle_cost_us : r->cycle_cost_us, cost, sizeof(cost)));
	return buf;
}

/* Breaks lines at blanks. The first line begins with first, the others with as many blanks. */
static void output_wrap(FILE *out, const char *first, const char *text)
{
	const int indent = (int)strlen(first);
	cleanup_free char *clean = xmalloc(strlen(text) + 1);
	int column = indent;

	fputs(first, out);
	for (const char *p = printable(text, clean, strlen(text) + 1); *p;) {
		const int word = (int)strcspn(p, " ");

		if (column > indent && column + 1 + word > OUTPUT_COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			fputc(' ', out);
			column++;
		}
		fwrite(p, 1, (size_t)word, out);
		column += word;
		p += word;
		p += strspn(p, " ");
	}
	fputc('\n', out);
}

static void output_list(FILE *out, const char *title, const struct qualify_lines *l)
{
	if (!l->n)
		return;
	fprintf(out, "\n%s\n", title);
	for (unsigned i = 0; i < l->n; i++)
		output_wrap(out, "  - ", l->v[i]);
}

static void output_runs(FILE *out, const struct qualify_result *r)
{
	fprintf(out, "\n  %-26s %8s  %-11s %8s  %-7s %s\n", "RUN", "JOB", "STATE", "SECONDS", "CYCLES", "RESULTS");
	for (unsigned i = 0; i < r->n_runs; i++) {
		const struct qualify_run *run = &r->runs[i];
		char cycles[32];

		if (run->job)
			fprintf(out, "  %-26s %8u  %-11s %8" PRId64 "  %-7s %s\n", qualify_kind_about(run->kind),
				run->job, *run->state ? run->state : "cancelled", run->run_s,
				output_cycles(r, run, cycles, sizeof(cycles)), output_compared(run));
	}
}

static void output_duration(FILE *out, const char *what, const struct qualify_measure *m)
{
	char mean[24], most[24];

	if (m->n)
		fprintf(out, "  %-12s %s on average, %s at most (%u)\n", what,
			format_duration(m->mean, mean, sizeof(mean)), format_duration(m->most, most, sizeof(most)), m->n);
}

static void output_measures(FILE *out, const struct qualify_result *r)
{
	char size[16], kept[16], slow[64];

	if (!r->total.n)
		return;
	fputs("\nMeasured\n", out);
	output_duration(out, "freeze", &r->frozen);
	output_duration(out, "checkpoint", &r->total);
	output_duration(out, "restore", &r->restore);
	fprintf(out, "  %-12s %s for an epoch; a job keeps %u, up to %s\n", "storage",
		format_size((uint64_t)r->bytes.most, size, sizeof(size)), r->max_epochs,
		format_size((uint64_t)r->bytes.most * r->max_epochs, kept, sizeof(kept)));
	fprintf(out, "  %-12s %s\n", "slow-down", output_slow_down(r, slow, sizeof(slow)));
}

void output_text(FILE *out, const struct qualify_result *r)
{
	char sentence[400];

	output_wrap(out, "", judge_sentence(r, sentence, sizeof(sentence)));
	output_list(out, "Why", &r->reasons);
	output_list(out, "Remarks", &r->remarks);
	output_list(out, "What to do", &r->advice);
	if (r->n_runs)
		output_runs(out, r);
	output_measures(out, r);
	output_list(out, "Not tested", &r->untested);
	fprintf(out, "\nSeed %" PRIu64 ", %u cycle%s of each kind.\n", r->o->seed, r->o->cycles,
		r->o->cycles == 1 ? "" : "s");
	if (*r->directory) {
		cleanup_free char *line = xasprintf("The runs are in %s", r->directory);

		output_wrap(out, "", line);
	}
}
