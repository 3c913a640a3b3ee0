#include "cli/qualify/output.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/qualify/judge.h"
#include "cli/report/html.h"

static void output_page_head(FILE *out, const struct qualify_result *r)
{
	const bool good = r->verdict == QUALIFY_QUALIFIED;
	char when[24], sentence[400];

	fputs("<h1>", out);
	html_text(out, r->script);
	fputs("</h1>\n<p class=\"dim\">Tested with checkpoints by fsched " FSCHED_VERSION ", ", out);
	fprintf(out, "%s, user ", format_time(r->began, when, sizeof(when)));
	html_text(out, r->user);
	fputs(" on ", out);
	html_text(out, r->host);
	fprintf(out, "; seed %" PRIu64 "</p>\n<div class=\"card\"><p><b class=\"%s\">", r->o->seed,
		good                               ? "good"
		: r->verdict == QUALIFY_UNFINISHED ? "warn"
						   : "bad");
	html_text(out, judge_sentence(r, sentence, sizeof(sentence)));
	fputs("</b></p></div>\n", out);
}

static void output_page_list(FILE *out, const char *title, const struct qualify_lines *l)
{
	if (!l->n)
		return;
	fprintf(out, "<h2>%s</h2>\n<div class=\"card\"><ul>\n", title);
	for (unsigned i = 0; i < l->n; i++)
		html_element(out, "li", NULL, l->v[i]);
	fputs("</ul></div>\n", out);
}

static void output_page_duration(FILE *out, const struct qualify_measure *m, const char *what)
{
	char text[24];

	html_tile(out, NULL, m->n ? format_duration(m->mean, text, sizeof(text)) : "-", what);
}

static void output_page_tiles(FILE *out, const struct qualify_result *r)
{
	char text[64];

	fputs("<div class=\"tiles\">\n", out);
	output_page_duration(out, &r->frozen, "frozen for a checkpoint, on average");
	output_page_duration(out, &r->total, "for a whole checkpoint, on average");
	output_page_duration(out, &r->restore, "for a restore, on average");
	html_tile(out, NULL, r->bytes.n ? format_size((uint64_t)r->bytes.most, text, sizeof(text)) : "-",
		  "largest epoch");
	fputs("</div>\n<p>Slow-down by cycles: ", out);
	html_text(out, output_slow_down(r, text, sizeof(text)));
	fputs("</p>\n", out);
}

static void output_page_run_row(FILE *out, const struct qualify_result *r, const struct qualify_run *run)
{
	const char *compared = output_compared(run);
	char text[32];

	fputs("<tr>", out);
	html_element(out, "td", NULL, qualify_kind_about(run->kind));
	fprintf(out, "<td class=\"n\">%u</td>", run->job);
	html_element(out, "td", NULL, *run->state ? run->state : "cancelled");
	html_element(out, "td", NULL, run->node);
	fprintf(out, "<td class=\"n\">%" PRId64 " s</td>", run->run_s);
	html_element(out, "td", "n", output_cycles(r, run, text, sizeof(text)));
	html_element(out, "td", strcmp(compared, "different") == 0 ? "bad" : NULL, compared);
	fputs("</tr>\n", out);
}

static void output_page_runs(FILE *out, const struct qualify_result *r)
{
	fputs("<h2>Runs</h2>\n<div class=\"card wide\"><table>\n<tr><th>Run</th><th class=\"n\">Job</th><th>State</th><th>Node</th>"
	      "<th class=\"n\">Run time</th><th class=\"n\">Cycles</th><th>Results</th></tr>\n",
	      out);
	for (unsigned i = 0; i < r->n_runs; i++)
		if (r->runs[i].job)
			output_page_run_row(out, r, &r->runs[i]);
	fputs("</table></div>\n", out);
}

static void output_page_cycle(FILE *out, const struct qualify_run *run, const struct qualify_cycle *c)
{
	fprintf(out, "<tr><td class=\"n\">%u</td>", run->job);
	html_element(out, "td", NULL, run->kind == QUALIFY_FAILED ? "failure" : "vacate");
	html_duration(out, "td", c->at_us);
	html_size(out, "td", c->bytes);
	html_duration(out, "td", c->frozen_us);
	html_duration(out, "td", c->total_us);
	html_duration(out, "td", c->restore_us);
	html_element(out, "td", NULL, c->from);
	html_element(out, "td", NULL, c->to);
	html_element(out, "td", c->done ? "why" : "why bad", *c->why ? c->why : "restored");
	fputs("</tr>\n", out);
}

static void output_page_cycles(FILE *out, const struct qualify_result *r)
{
	fputs("<h2>Cycles</h2>\n<div class=\"card wide\"><table>\n<tr><th class=\"n\">Job</th><th>Event</th><th class=\"n\">After</th>"
	      "<th class=\"n\">Size</th><th class=\"n\">Frozen</th><th class=\"n\">Checkpoint</th><th class=\"n\">Restore</th>"
	      "<th>From</th><th>To</th><th>Outcome</th></tr>\n",
	      out);
	for (unsigned i = 0; i < r->n_runs; i++)
		for (unsigned k = 0; k < r->runs[i].n_cycles; k++)
			output_page_cycle(out, &r->runs[i], &r->runs[i].cycles[k]);
	fputs("</table></div>\n", out);
}

void output_page(FILE *out, const struct qualify_result *r)
{
	html_begin(out, "Qualification");
	output_page_head(out, r);
	if (r->total.n)
		output_page_tiles(out, r);
	output_page_list(out, "Why", &r->reasons);
	output_page_list(out, "Remarks", &r->remarks);
	output_page_list(out, "What to do", &r->advice);
	if (r->n_runs)
		output_page_runs(out, r);
	if (r->total.n || qualify_find_run(r, QUALIFY_VACATED))
		output_page_cycles(out, r);
	output_page_list(out, "Not tested", &r->untested);
	html_end(out);
}
