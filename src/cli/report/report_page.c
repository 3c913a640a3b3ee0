#include "cli/report/report_page.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/report/html.h"

static void page_head(FILE *out, const struct report *r)
{
	char when[24];

	fprintf(out, "<h1>Checkpoints</h1>\n<p class=\"dim\">fsched " FSCHED_VERSION ", as of %s on ",
		format_time(r->now, when, sizeof(when)));
	html_text(out, r->host);
	fputs(". ", out);
	html_text(out, r->scope);
	fputs(".", out);
	if (r->hidden)
		fprintf(out, " %u job%s of others not shown.", r->hidden, r->hidden == 1 ? " is" : "s are");
	fputs("</p>\n", out);
}

static void page_tile_count(FILE *out, const char *class, uint64_t n, const char *what)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	html_tile(out, n ? class : NULL, text, what);
}

static void page_tiles(FILE *out, const struct report *r)
{
	const struct history_tally *t = &r->tally;
	uint64_t kept = 0, prunable = 0, running = 0;
	char text[32], what[64];

	for (size_t i = 0; i < r->n_jobs; i++) {
		kept += r->jobs[i]->kept;
		prunable += r->jobs[i]->prunable;
		running += r->jobs[i]->running;
	}
	fputs("<div class=\"tiles\">\n", out);
	page_tile_count(out, NULL, r->n_jobs, r->n_jobs == 1 ? "job" : "jobs");
	page_tile_count(out, NULL, running, "of them running");
	page_tile_count(out, NULL, history_sum(&t->made), "checkpoints made");
	page_tile_count(out, "bad", history_sum(&t->failed), "failed");
	page_tile_count(out, "warn", history_sum(&t->refused) + t->skipped, "not made or skipped");
	page_tile_count(out, "good", history_counted(&t->restores, "ok"), "restores");
	page_tile_count(out, "bad", history_counted(&t->restores, "failed"), "restores that failed");
	snprintf(what, sizeof(what), "on disk; prune --keep 1 frees %s", format_size(prunable, text, sizeof(text)));
	html_tile(out, NULL, format_size(kept, text, sizeof(text)), prunable ? what : "on disk");
	fputs("</div>\n", out);
}

/* ---- cost and benefit ---- */

static void page_bar(FILE *out, const char *what, int64_t seconds, int64_t most, const char *class)
{
	char span[32];

	fprintf(out, "<tr><td class=\"t\">%s</td><td class=\"n\">%s</td><td style=\"width:60%%\">", what,
		html_span(seconds, span));
	fprintf(out,
		"<svg width=\"100%%\" height=\"14\"><rect class=\"bar back\" width=\"100%%\" height=\"14\" rx=\"3\"/>"
		"<rect class=\"bar%s\" width=\"%.3f%%\" height=\"14\" rx=\"3\"/></svg></td></tr>\n",
		class, most > 0 ? (double)seconds * 100 / (double)most : 0);
}

/* Of checkpoints after which the job ran on. */
static int64_t page_mean_freeze(const struct history_tally *t)
{
	uint64_t n = 0;

	for (unsigned i = 0; i <= HISTORY_BUCKETS; i++)
		n += t->frozen[i];
	return n ? (int64_t)(t->frozen_us / n) : 0;
}

static void page_balance(FILE *out, const struct report *r)
{
	const struct history_tally *t = &r->tally;
	const int64_t lost = (int64_t)t->lost, without = lost + (int64_t)t->saved,
		      frozen = (int64_t)(t->frozen_us / 1000000);
	const uint64_t made = history_sum(&t->made);
	char a[24], b[24], c[16];

	fputs("<h2>Cost and benefit</h2>\n<div class=\"card\">\n", out);
	if (!history_counted(&t->restores, "ok"))
		fputs("<p>No job has been restored so far: nothing was lost, and nothing had to be saved.</p>\n", out);
	fputs("<div class=\"wide\"><table>\n", out);
	page_bar(out, "Work lost without checkpoints", without, without, " lost");
	page_bar(out, "Work lost with them", lost, without, " lost");
	page_bar(out, "Standstill for checkpoints", frozen, without > frozen ? without : frozen, "");
	fputs("</table></div>\n", out);
	if (made)
		fprintf(out,
			"<p class=\"dim\">A checkpoint took %s on average, during which the job stood still for %s, and wrote %s. "
			"A job that is vacated stands still until it is saved; that is not counted.</p>\n",
			format_duration((int64_t)(t->total_us / made), a, sizeof(a)),
			format_duration(page_mean_freeze(t), b, sizeof(b)), format_size(t->written / made, c, sizeof(c)));
	fputs("</div>\n", out);
}

/* ---- storage ---- */

struct page_user {
	const char *name;
	unsigned jobs, epochs;
	uint64_t kept, prunable, ended;
};

static int page_by_size(const void *a, const void *b)
{
	const struct page_user *x = a, *y = b;

	return x->kept != y->kept ? (x->kept < y->kept ? 1 : -1) : strcmp(x->name, y->name);
}

static struct page_user *page_users(const struct report *r, size_t *n)
{
	struct page_user *v = NULL;
	size_t room = 0;

	*n = 0;
	for (size_t i = 0; i < r->n_jobs; i++) {
		const struct report_job *j = r->jobs[i];
		size_t k = 0;

		while (k < *n && strcmp(v[k].name, j->user))
			k++;
		if (k == *n) {
			array_reserve(v, *n, room);
			v[(*n)++] = (struct page_user){ .name = j->user };
		}
		v[k].jobs++;
		v[k].epochs += j->n_epochs;
		v[k].kept += j->kept;
		v[k].prunable += j->prunable;
		v[k].ended += strcmp(j->state, "done") == 0 ? j->kept : 0;
	}
	if (*n)
		qsort(v, *n, sizeof(*v), page_by_size);
	return v;
}

static void page_storage(FILE *out, const struct report *r)
{
	size_t n;
	cleanup_free struct page_user *v = page_users(r, &n);

	fputs("<h2>Storage by user</h2>\n<div class=\"card wide\"><table>\n"
	      "<tr><th>User</th><th class=\"n\">Jobs</th><th class=\"n\">Epochs</th><th class=\"n\">On disk</th>"
	      "<th class=\"n\">Freed by prune --keep 1</th><th class=\"n\">Of jobs that are done</th></tr>\n",
	      out);
	for (size_t i = 0; i < n; i++) {
		fputs("<tr>", out);
		html_element(out, "td", NULL, v[i].name);
		fprintf(out, "<td class=\"n\">%u</td><td class=\"n\">%u</td>", v[i].jobs, v[i].epochs);
		html_size(out, "td", v[i].kept);
		html_size(out, "td", v[i].prunable);
		html_size(out, "td", v[i].ended);
		fputs("</tr>\n", out);
	}
	fputs("</table></div>\n", out);
}

/* ---- jobs ---- */

static void page_job_row(FILE *out, const struct report *r, size_t i)
{
	const struct report_job *j = r->jobs[i];
	const bool link = i < REPORT_SECTIONS;
	const struct history_tally *t = &j->history.tally;
	const uint64_t bad = history_sum(&t->failed) + history_sum(&t->refused);

	fputs("<tr><td class=\"t\">", out);
	if (link)
		fprintf(out, "<a href=\"#job-%zu\">", i);
	html_text(out, j->label);
	fputs(link ? "</a></td>" : "</td>", out);
	html_element(out, "td", "name", j->name);
	html_element(out, "td", NULL, j->user);
	html_element(out, "td", NULL, j->state);
	html_element(out, "td", "optional", j->node);
	fprintf(out, "<td class=\"n\">%" PRIu64 "</td><td class=\"n%s\">%" PRIu64 "</td><td class=\"n\">%" PRIu64 "</td>",
		history_sum(&t->made), bad ? " bad" : "", bad, history_counted(&t->restores, "ok"));
	html_size(out, "td", j->kept);
	html_size(out, "td", j->prunable);
	html_time(out, "td", j->last);
	fputs("</tr>\n", out);
}

static void page_jobs(FILE *out, const struct report *r)
{
	fputs("<h2>Jobs</h2>\n<div class=\"card wide\"><table>\n"
	      "<tr><th>Job</th><th>Name</th><th>User</th><th>State</th><th class=\"optional\">Node</th>"
	      "<th class=\"n\">Epochs made</th><th class=\"n\">Not made</th><th class=\"n\">Restores</th>"
	      "<th class=\"n\">On disk</th><th class=\"n\">Prunable</th><th>Last event</th></tr>\n",
	      out);
	for (size_t i = 0; i < r->n_jobs; i++)
		page_job_row(out, r, i);
	fputs("</table></div>\n", out);
}

void report_page(FILE *out, const struct report *r)
{
	html_begin(out, "Checkpoints");
	page_head(out, r);
	if (!r->n_jobs)
		fputs("<p>There is no job to show.</p>\n", out);
	else {
		page_tiles(out, r);
		page_balance(out, r);
		page_storage(out, r);
		page_jobs(out, r);
		fputs("<h2>Job by job</h2>\n", out);
	}
	for (size_t i = 0; i < r->n_jobs && i < REPORT_SECTIONS; i++)
		report_job_section(out, r, i);
	if (r->n_jobs > REPORT_SECTIONS)
		fprintf(out, "<p class=\"dim\">%zu more jobs are in the table only.</p>\n", r->n_jobs - REPORT_SECTIONS);
	html_end(out);
}
