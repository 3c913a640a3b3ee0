#include "cli/report/timeline.h"

#include <string.h>

#include "base/clock.h"
#include "base/util.h"
#include "cli/report/html.h"

#define TIMELINE_NODES 6 /* colours */

char *timeline_say(const struct history_event *e, char buf[96])
{
	char trigger[24] = "";

	if (*e->trigger)
		snprintf(trigger, sizeof(trigger), " (%s)", e->trigger);
	switch (e->kind) {
	case HISTORY_STARTED: snprintf(buf, 96, "started%s", e->run > 1 ? " from the beginning" : ""); break;
	case HISTORY_EPOCH: snprintf(buf, 96, "epoch %u%s", e->epoch, trigger); break;
	case HISTORY_FAILED: snprintf(buf, 96, "checkpoint%s failed", trigger); break;
	case HISTORY_REFUSED: snprintf(buf, 96, "checkpoint%s not made", trigger); break;
	case HISTORY_SKIPPED: snprintf(buf, 96, "checkpoint skipped"); break;
	case HISTORY_RESTORED: snprintf(buf, 96, "restored from epoch %u", e->epoch); break;
	case HISTORY_RESTORE_FAILED: snprintf(buf, 96, "restore of epoch %u failed", e->epoch); break;
	case HISTORY_MOVED: snprintf(buf, 96, "given to another node"); break;
	case HISTORY_HELD: snprintf(buf, 96, "held"); break;
	case HISTORY_LEFT: snprintf(buf, 96, "off its node%s", trigger); break;
	case HISTORY_ENDED: snprintf(buf, 96, "end of the run"); break;
	default: snprintf(buf, 96, "?");
	}
	return buf;
}

void timeline_span(const struct report_job *j, int64_t since, int64_t now, int64_t *from, int64_t *to)
{
	*from = j->history.n ? j->history.v[0].time : now;
	*to = j->running ? now : j->last;
	if (*from < since)
		*from = since;
	if (*to <= *from)
		*to = *from + 1;
}

struct timeline {
	FILE *out;
	int64_t from, to;
	char nodes[TIMELINE_NODES][64];
	unsigned n_nodes;
};

static double timeline_x(const struct timeline *t, int64_t time) /* percent */
{
	const double x = (double)(time - t->from) * 100 / (double)(t->to - t->from);

	return x < 0 ? 0 : x > 100 ? 100 : x;
}

/* More nodes than colours share the last one. */
static unsigned timeline_color(struct timeline *t, const char *node)
{
	for (unsigned i = 0; i < t->n_nodes; i++)
		if (strcmp(t->nodes[i], node) == 0)
			return i;
	if (t->n_nodes == TIMELINE_NODES)
		return TIMELINE_NODES - 1;
	snprintf(t->nodes[t->n_nodes], sizeof(t->nodes[0]), "%s", node);
	return t->n_nodes++;
}

static void timeline_stretch(struct timeline *t, const struct report_stretch *s)
{
	const double x = timeline_x(t, s->from), end = timeline_x(t, s->to);
	char from[24], to[24];

	if (s->to < t->from)
		return;
	fprintf(t->out, "<rect class=\"s%u\" x=\"%.3f%%\" y=\"16\" width=\"%.3f%%\" height=\"20\" rx=\"2\"><title>",
		timeline_color(t, s->node), x, end - x > 0.3 ? end - x : 0.3);
	html_text(t->out, s->node);
	fprintf(t->out, ", %s to %s%s</title></rect>\n", format_time(s->from, from, sizeof(from)),
		format_time(s->to, to, sizeof(to)), s->lost ? ", then lost" : "");
	if (s->lost)
		fprintf(t->out, "<line class=\"fail\" x1=\"%.3f%%\" x2=\"%.3f%%\" y1=\"10\" y2=\"42\"/>\n", end, end);
}

static void timeline_title(const struct timeline *t, const struct history_event *e)
{
	char what[96], when[24];

	fputs("<title>", t->out);
	html_text(t->out, timeline_say(e, what));
	if (e->times > 1)
		fprintf(t->out, " %u times", e->times);
	fprintf(t->out, ", %s", format_time(e->time, when, sizeof(when)));
	if (*e->node) {
		fputs(", ", t->out);
		html_text(t->out, e->node);
	}
	if (*e->reason) {
		fputs(": ", t->out);
		html_text(t->out, e->reason);
	}
	fputs("</title>", t->out);
}

/* A mark of a few pixels at a percentage: an svg in the svg has its own origin. */
static void timeline_mark(const struct timeline *t, const struct history_event *e)
{
	static const char cross[] = "<path class=\"fail\" d=\"M-4 44l8 8M4 44l-8 8\"/>";
	static const struct {
		enum history_kind kind;
		const char *shape;
	} marks[] = {
		{ HISTORY_EPOCH, "<line class=\"epoch\" x1=\"0\" x2=\"0\" y1=\"11\" y2=\"26\"/>" },
		{ HISTORY_RESTORED, "<path class=\"restore\" d=\"M-5 2h10l-5 11z\"/>" },
		{ HISTORY_FAILED, cross },
		{ HISTORY_REFUSED, cross },
		{ HISTORY_RESTORE_FAILED, cross },
		{ HISTORY_HELD, cross },
		{ HISTORY_ENDED, "<line class=\"end\" x1=\"0\" x2=\"0\" y1=\"16\" y2=\"36\"/>" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		if (marks[i].kind != e->kind)
			continue;
		fprintf(t->out, "<svg x=\"%.3f%%\" y=\"0\" overflow=\"visible\"><g>", timeline_x(t, e->time));
		fputs(marks[i].shape, t->out);
		timeline_title(t, e);
		fputs("</g></svg>\n", t->out);
	}
}

/* "2026-11-30 18:00", without the date if the span is short. */
static void timeline_label(const struct timeline *t, int i)
{
	static const char *const anchors[] = { "start", "middle", "end" };
	const bool days = i == 0 || t->to - t->from > 86400;
	char when[24];

	format_time(t->from + (t->to - t->from) * i / 2, when, sizeof(when));
	if (strlen(when) != 19)
		return;
	when[10] = ' ';
	when[days ? 16 : 19] = '\0';
	fprintf(t->out, "<text x=\"%d%%\" y=\"66\" text-anchor=\"%s\">%s</text>", i * 50, anchors[i],
		days ? when : when + 11);
}

static void timeline_axis(const struct timeline *t)
{
	for (int i = 0; i <= 2; i++)
		timeline_label(t, i);
}

static void timeline_key(const struct timeline *t)
{
	fputs("<div class=\"key\">", t->out);
	for (unsigned i = 0; i < t->n_nodes; i++) {
		fprintf(t->out,
			"<span><svg width=\"12\" height=\"12\"><rect class=\"s%u\" width=\"12\" height=\"12\" rx=\"2\"/></svg>",
			i);
		html_text(t->out, t->nodes[i]);
		fputs("</span>", t->out);
	}
	fputs("<span><svg width=\"6\" height=\"12\"><line class=\"epoch\" x1=\"3\" x2=\"3\" y1=\"0\" y2=\"12\"/></svg>epoch</span>"
	      "<span><svg width=\"12\" height=\"12\"><path class=\"restore\" d=\"M1 1h10l-5 11z\"/></svg>restore</span>"
	      "<span><svg width=\"12\" height=\"12\"><path class=\"fail\" d=\"M2 2l8 8M10 2l-8 8\"/></svg>not made or failed</span>"
	      "<span><svg width=\"6\" height=\"12\"><line class=\"fail\" x1=\"3\" x2=\"3\" y1=\"0\" y2=\"12\"/></svg>lost its node</span></div>\n",
	      t->out);
}

void timeline_print(FILE *out, const struct report_job *j, int64_t since, int64_t now)
{
	struct timeline t = { .out = out };
	struct report_stretch v[REPORT_STRETCHES];
	const unsigned n = report_stretches(j, now, v);

	timeline_span(j, since, now, &t.from, &t.to);
	fputs("<svg width=\"100%\" height=\"70\" role=\"img\" aria-label=\"time line\">\n"
	      "<rect class=\"bar back\" x=\"0\" y=\"25\" width=\"100%\" height=\"2\"/>\n",
	      out);
	for (unsigned i = 0; i < n; i++)
		timeline_stretch(&t, &v[i]);
	for (unsigned i = 0; i < j->history.n; i++)
		if (j->history.v[i].until >= t.from)
			timeline_mark(&t, &j->history.v[i]);
	timeline_axis(&t);
	fputs("</svg>\n", out);
	timeline_key(&t);
}
