/* One job in the report: time line, charts, events. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/interval.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/report/chart.h"
#include "cli/report/html.h"
#include "cli/report/report_page.h"
#include "cli/report/timeline.h"

#define SECTION_EVENTS 100

static void section_head(FILE *out, const struct report_job *j)
{
	char interval[32], span[32];

	fputs("<header><b>", out);
	html_text(out, j->label);
	fputs("</b>", out);
	if (*j->name)
		html_element(out, "span", NULL, j->name);
	html_element(out, "span", "dim", j->user);
	html_element(out, "span", "tag", j->state);
	fprintf(out, "<span class=\"dim\">%s%s",
		j->interval > 0 ? "every "
		: j->interval   ? "interval "
				: "on request",
		j->interval ? interval_format(j->interval, interval, sizeof(interval)) : "");
	if (j->used)
		fprintf(out, ", has run for %s", html_span(j->used, span));
	fputs("</span></header>\n", out);
}

static char *section_format_seconds(double value, char *buf)
{
	return format_duration((int64_t)(value * 1e6), buf, 32);
}

static char *section_format_bytes(double value, char *buf)
{
	return format_size((uint64_t)value, buf, 32);
}

/* Collects one point for each epoch. */
static void section_collect(const struct report_job *j, struct chart *c, struct chart_point *v,
			    double (*value)(const struct history_event *e, unsigned series))
{
	char what[96], a[32], b[32];

	c->n = 0;
	for (unsigned i = 0; i < j->history.n; i++) {
		const struct history_event *e = &j->history.v[i];
		struct chart_point *p = &v[c->n];

		if (e->kind != HISTORY_EPOCH || e->time < c->from || !(value(e, 0) > 0))
			continue;
		*p = (struct chart_point){ .time = e->time, .value = { value(e, 0), value(e, 1) } };
		c->format(p->value[0], a);
		snprintf(p->about, sizeof(p->about), "%.40s: %s%s%s", timeline_say(e, what), a,
			 c->series[1] ? ", newly written " : "", c->series[1] ? c->format(p->value[1], b) : "");
		c->n++;
	}
}

static double section_frozen(const struct history_event *e, unsigned series)
{
	return (double)e->frozen_us / 1e6;
}

static double section_total(const struct history_event *e, unsigned series)
{
	return (double)e->total_us / 1e6;
}

static double section_bytes(const struct history_event *e, unsigned series)
{
	return (double)(series ? e->written : e->bytes);
}

static void section_charts(FILE *out, const struct report *r, const struct report_job *j)
{
	cleanup_free struct chart_point *v = xcalloc(HISTORY_EVENTS, sizeof(*v));
	struct chart c[] = {
		{ .title = "Freeze", .series = { "" }, .format = section_format_seconds },
		{ .title = "Duration of checkpoints", .series = { "" }, .format = section_format_seconds },
		{ .title = "Epochs", .series = { "size", "newly written" }, .format = section_format_bytes, .unit = 1024 },
	};
	double (*const values[])(const struct history_event *e, unsigned series) = { section_frozen, section_total,
										     section_bytes };

	fputs("<div class=\"charts\">\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		timeline_span(j, r->since, r->now, &c[i].from, &c[i].to);
		c[i].v = v;
		section_collect(j, &c[i], v, values[i]);
		if (c[i].n)
			chart_print(out, &c[i]);
	}
	fputs("</div>\n", out);
}

/* ---- cost and benefit ---- */

static void section_balance(FILE *out, const struct report_job *j)
{
	const struct history_tally *t = &j->history.tally;
	const uint64_t made = history_sum(&t->made), restores = history_counted(&t->restores, "ok");
	char a[32], b[32], c[24];

	fprintf(out, "<p>%" PRIu64 " checkpoint%s made, %" PRIu64 " failed, %" PRIu64 " not made, %" PRIu64 " skipped",
		made, made == 1 ? "" : "s", history_sum(&t->failed), history_sum(&t->refused), t->skipped);
	if (made)
		fprintf(out, "; frozen for %s altogether", format_duration((int64_t)t->frozen_us, c, sizeof(c)));
	fputs(".", out);
	if (restores)
		fprintf(out,
			" %" PRIu64
			" restore%s: <span class=\"good\">%s of work did not have to be repeated</span>, <span class=\"%s\">%s was lost</span>.",
			restores, restores == 1 ? "" : "s", html_span((int64_t)t->saved, a), t->lost ? "bad" : "dim",
			html_span((int64_t)t->lost, b));
	fputs("</p>\n", out);
}

/* ---- events ---- */

static const char *section_class(const struct history_event *e)
{
	switch (e->kind) {
	case HISTORY_FAILED:
	case HISTORY_RESTORE_FAILED:
	case HISTORY_HELD: return "bad";
	case HISTORY_REFUSED:
	case HISTORY_SKIPPED:
	case HISTORY_MOVED: return "warn";
	case HISTORY_RESTORED: return "good";
	default: return NULL;
	}
}

/* What a restore of the epoch on trial has shown. */
static void section_proof(FILE *out, const struct report_job *j, const struct history_event *e)
{
	const struct proof *p = proofs_find(j->proofs, e->epoch, e->time);
	char text[PROOF_TEXT];

	if (!p)
		return;
	fprintf(out, "; <span class=\"%s\">proved: ", p->ok ? "good" : "bad");
	html_text(out, proof_text(p, text));
	fputs("</span>", out);
}

static void section_detail(FILE *out, const struct report_job *j, const struct history_event *e)
{
	char size[16], time[24], span[32];

	fputs("<td class=\"why\">", out);
	if (e->kind == HISTORY_EPOCH && e->bytes)
		fprintf(out, "%s, frozen %s", format_size(e->bytes, size, sizeof(size)),
			e->frozen_us ? format_duration(e->frozen_us, time, sizeof(time)) : "?");
	if (e->kind == HISTORY_RESTORED) {
		fprintf(out, "in %s", format_duration(e->total_us, time, sizeof(time)));
		if (e->lost)
			fprintf(out, ", lost %s", html_span(e->lost, span));
	}
	html_text(out, e->reason);
	if (e->kind == HISTORY_EPOCH)
		section_proof(out, j, e);
	fputs("</td>", out);
}

static void section_events(FILE *out, const struct report *r, const struct report_job *j)
{
	const struct job_history *h = &j->history;
	const unsigned first = h->n > SECTION_EVENTS ? h->n - SECTION_EVENTS : 0;
	char what[96], times[24];

	fprintf(out,
		"<details><summary>%s%u events</summary><div class=\"wide\"><table>\n"
		"<tr><th>Time</th><th>Event</th><th>Node</th><th>Details</th></tr>\n",
		first ? "The last " : "", h->n - first);
	for (unsigned i = h->n; i > first; i--) {
		const struct history_event *e = &h->v[i - 1];

		if (e->until < r->since)
			continue;
		fputs("<tr>", out);
		html_time(out, "td", e->time);
		timeline_say(e, what);
		snprintf(times, sizeof(times), ", %u times", e->times);
		if (e->times > 1)
			strncat(what, times, sizeof(what) - strlen(what) - 1);
		html_element(out, "td", section_class(e), what);
		html_element(out, "td", NULL, e->node);
		section_detail(out, j, e);
		fputs("</tr>\n", out);
	}
	fputs("</table></div></details>\n", out);
}

void report_job_section(FILE *out, const struct report *r, size_t i)
{
	const struct report_job *j = r->jobs[i];

	fprintf(out, "<section class=\"job\" id=\"job-%zu\">\n", i);
	section_head(out, j);
	if (j->history.n)
		timeline_print(out, j, r->since, r->now);
	section_balance(out, j);
	section_charts(out, r, j);
	section_events(out, r, j);
	fputs("</section>\n", out);
}
