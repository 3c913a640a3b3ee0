/* The page of `fsched report`. With an argument the program writes a page of made-up jobs into that file. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "cli/report/chart.h"
#include "cli/report/html.h"
#include "cli/report/report_page.h"
#include "cli/report/since.h"
#include "cli/report/timeline.h"

#define NOW     INT64_C(1796000000)
#define HOSTILE "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\033[31m\n\xff"

static struct history_event event(enum history_kind kind, int64_t time, const char *node, unsigned epoch)
{
	struct history_event e = { .kind = kind, .time = time, .run = 1, .epoch = epoch };

	snprintf(e.node, sizeof(e.node), "%s", node);
	return e;
}

static void add_epoch(struct job_history *h, int64_t time, unsigned n, const char *node, const char *trigger)
{
	struct history_event e = event(HISTORY_EPOCH, time, node, n);

	e.bytes = UINT64_C(3) << 30;
	e.bytes += (uint64_t)n << 27;
	e.written = n % 10 ? UINT64_C(200) << 20 : e.bytes;
	e.frozen_us = 40000 + 9000 * (n * 7 % 11);
	e.total_us = n % 10 ? 1500000 + 100000 * (n * 5 % 13) : 9000000;
	e.used = time - (NOW - 86400);
	snprintf(e.trigger, sizeof(e.trigger), "%s", trigger);
	history_add(h, &e);
	history_count(&h->tally.made, trigger, 1);
	history_count_freeze(&h->tally, e.frozen_us);
	h->tally.total_us += (uint64_t)e.total_us;
	h->tally.written += e.written;
}

static void add_reason(struct job_history *h, enum history_kind kind, int64_t time, const char *node, unsigned epoch,
		       const char *reason)
{
	struct history_event e = event(kind, time, node, epoch);

	snprintf(e.reason, sizeof(e.reason), "%s", reason);
	snprintf(e.trigger, sizeof(e.trigger), "%s", kind == HISTORY_RESTORE_FAILED ? "" : "periodic");
	history_add(h, &e);
	if (kind == HISTORY_REFUSED)
		history_count(&h->tally.refused, "tcp", 1);
	if (kind == HISTORY_RESTORE_FAILED)
		history_count(&h->tally.restores, "failed", 1);
	if (kind == HISTORY_FAILED)
		history_count(&h->tally.failed, "space", 1);
}

static void add_restore(struct job_history *h, int64_t time, const char *node, unsigned epoch, int64_t lost)
{
	struct history_event e = event(HISTORY_RESTORED, time, node, epoch);

	e.total_us = 2400000;
	e.lost = lost;
	e.seen = lost ? h->v[h->n - 1].time + lost : 0;
	e.used = 30000;
	history_add(h, &e);
	history_count(&h->tally.restores, "ok", 1);
	h->tally.lost += (uint64_t)lost;
	h->tally.saved += (uint64_t)e.used;
}

static struct report_job *job(uint32_t id, const char *user, const char *name)
{
	struct report_job *j = xcalloc(1, sizeof(*j));

	j->id = id;
	snprintf(j->label, sizeof(j->label), "%u", id);
	snprintf(j->name, sizeof(j->name), "%s", name);
	snprintf(j->user, sizeof(j->user), "%s", user);
	snprintf(j->state, sizeof(j->state), "done");
	snprintf(j->node, sizeof(j->node), "node07");
	j->interval = 1800;
	j->n_epochs = 3;
	j->kept = UINT64_C(5) << 30;
	j->prunable = UINT64_C(700) << 20;
	return j;
}

/* Runs on node07, which fails, goes on on node12, is refused a few times, and is vacated and restarted. */
static struct report_job *long_job(void)
{
	struct report_job *j = job(4711, "alice", "cfd_wing_re5e6");
	struct job_history *h = &j->history;
	const int64_t t = NOW - 86400;
	struct history_event e = event(HISTORY_STARTED, t, "node07", 0);
	unsigned n = 1;

	history_add(h, &e);
	for (; n <= 16; n++)
		add_epoch(h, t + 1800 * n, n, "node07", "periodic");
	add_restore(h, t + 31500, "node12", 16, 1130);
	for (; n <= 22; n++)
		add_epoch(h, t + 31500 + 1800 * (n - 16), n, "node12", "periodic");
	for (int i = 0; i < 3; i++)
		add_reason(
			h, HISTORY_REFUSED, t + 44100 + 1800 * i, "node12", 23,
			"process 17 (python3) has a TCP connection to another host, 10.0.0.1 port 443, which cannot be checkpointed; close it and try again");
	add_epoch(h, t + 50400, n++, "node12", "vacate");
	e = event(HISTORY_LEFT, t + 50400, "node12", n - 1);
	history_add(h, &e);
	add_reason(h, HISTORY_RESTORE_FAILED, t + 57000, "node03", n - 1,
		   "epoch 23 cannot be restored: a program or library of the job is another version on this node");
	add_restore(h, t + 57600, "node21", n - 1, 0);
	for (; n <= 36; n++)
		add_epoch(h, t + 57600 + 1800 * (n - 23), n, "node21", "periodic");
	j->running = true;
	snprintf(j->state, sizeof(j->state), "running");
	j->last = h->v[h->n - 1].time;
	j->used = 74000;
	return j;
}

static struct report_job *short_job(uint32_t id, const char *user, const char *name)
{
	struct report_job *j = job(id, user, name);
	struct history_event e = event(HISTORY_STARTED, NOW - 40000, "node07", 0);

	history_add(&j->history, &e);
	add_epoch(&j->history, NOW - 39000, 1, "node07", "create");
	add_reason(&j->history, HISTORY_FAILED, NOW - 38000, "node07", 2, name);
	e = event(HISTORY_ENDED, NOW - 30000, "node07", 0);
	snprintf(e.reason, sizeof(e.reason), "the script ended with exit status 0");
	history_add(&j->history, &e);
	j->last = NOW - 30000;
	return j;
}

static char *page_of(const struct report *r)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	report_page(out, r);
	fclose(out);
	return text;
}

static void text_is_never_markup(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	html_text(out, HOSTILE);
	fclose(out);
	assert_string_equal(
		text,
		"&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;&lt;img src=x onerror=alert(2)&gt;&amp;amp;?[31m??");
	free(text);
}

/* Every text of a job, its user, its nodes and of the command line, with the most that fits. */
static void hostile_jobs(void **state)
{
	struct report r = { .now = NOW };
	struct report_job *j = short_job(1, HOSTILE, HOSTILE);
	cleanup_free char *page = NULL;

	snprintf(r.scope, sizeof(r.scope), "%s", HOSTILE);
	snprintf(r.host, sizeof(r.host), "%s", HOSTILE);
	snprintf(j->label, sizeof(j->label), "%.60s", HOSTILE);
	snprintf(j->state, sizeof(j->state), "%.30s", HOSTILE);
	snprintf(j->node, sizeof(j->node), "%s", HOSTILE);
	for (unsigned i = 0; i < j->history.n; i++) {
		snprintf(j->history.v[i].node, sizeof(j->history.v[i].node), "%.60s", HOSTILE);
		snprintf(j->history.v[i].reason, sizeof(j->history.v[i].reason), "%s", HOSTILE);
		snprintf(j->history.v[i].trigger, sizeof(j->history.v[i].trigger), "%.15s", HOSTILE);
	}
	report_add(&r, j);
	page = page_of(&r);
	assert_null(strcasestr(page, "<script"));
	assert_null(strcasestr(page, "<img"));
	assert_null(strchr(page, '\033'));
	assert_null(strchr(page, '\xff'));
	assert_non_null(strstr(page, "&lt;script&gt;"));
	assert_non_null(strstr(page, "<title>Checkpoints</title>\n<style>"));
	report_free(&r);
}

/* Nothing on the page makes a browser ask a network, and nothing runs. */
static void a_page_of_its_own(void **state)
{
	struct report r = { .now = NOW };
	cleanup_free char *page = NULL;

	report_add(&r, long_job());
	page = page_of(&r);
	assert_null(strstr(page, "http://"));
	assert_null(strstr(page, "https://"));
	assert_null(strstr(page, "src="));
	assert_null(strstr(page, "url("));
	assert_null(strstr(page, "@import"));
	assert_non_null(strstr(page, "default-src 'none'"));
	assert_non_null(strstr(page, "prefers-color-scheme: dark"));
	assert_non_null(strstr(page, "@media print"));
	assert_non_null(strstr(page, "has a TCP connection to another host"));
	assert_non_null(strstr(page, ">checkpoint (periodic) not made, 3 times<"));
	assert_non_null(strstr(page, "lost 18 min"));
	report_free(&r);
}

static void an_empty_page(void **state)
{
	struct report r = { .now = NOW };
	cleanup_free char *page = page_of(&r);

	assert_non_null(strstr(page, "There is no job to show."));
}

static void where_a_job_ran(void **state)
{
	cleanup_free struct report_job *j = long_job();
	struct report_stretch v[REPORT_STRETCHES];
	const int64_t t = NOW - 86400;

	assert_int_equal(report_stretches(j, NOW, v), 3);
	assert_int_equal(v[0].from, t);
	assert_int_equal(v[0].to, t + 16 * 1800 + 1130);
	assert_true(v[0].lost);
	assert_string_equal(v[1].node, "node12");
	assert_int_equal(v[1].to, t + 50400);
	assert_false(v[1].lost);
	assert_int_equal(v[2].from, t + 57600);
	assert_int_equal(v[2].to, NOW);
}

/* A job of an older version of fsched has a record alone. */
static void epochs_of_the_record(void **state)
{
	static struct job_history none;
	struct job_record *rec = xcalloc(1, sizeof(*rec));
	cleanup_free struct report_job *j = xcalloc(1, sizeof(*j));

	rec->job_id = 5;
	rec->n_epochs = 2;
	rec->epochs[0] = (struct epoch_summary){ .number = 1, .time = 100, .bytes = 10, .reason = "create" };
	rec->epochs[1] = (struct epoch_summary){ .number = 2, .time = 200, .bytes = 10, .shared = 4, .reason = "create" };
	report_fill_job(j, rec, &none);
	assert_int_equal(j->history.n, 2);
	assert_int_equal(j->history.v[1].epoch, 2);
	assert_int_equal(j->last, 200);
	assert_int_equal(j->kept, 20);
	report_fill_job(j, rec, &j->history);
	assert_int_equal(j->history.n, 2);
	free(rec);
}

static void axes_are_round(void **state)
{
	static const struct {
		double value, top;
	} cases[] = { { 0, 1 }, { -1, 1 }, { 1, 1 }, { 1.2, 2 }, { 2.2, 2.5 }, { 7, 10 }, { 0.031, 0.05 }, { 3e9, 5e9 } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_float_equal(chart_round_up(cases[i].value), cases[i].top, cases[i].top * 1e-9);
}

static void points_in_time(void **state)
{
	int64_t t;

	setenv("TZ", "UTC", 1);
	tzset();
	assert_int_equal(since_parse("2026-11-30", NOW, &t), 0);
	assert_int_equal(t, 1795996800);
	assert_int_equal(since_parse("2026-11-30T00:01", NOW, &t), 0);
	assert_int_equal(t, 1795996860);
	assert_int_equal(since_parse("2026-11-30T00:01:02", NOW, &t), 0);
	assert_int_equal(t, 1795996862);
	assert_int_equal(since_parse("now-7days", NOW, &t), 0);
	assert_int_equal(t, NOW - 7 * 86400);
	assert_int_equal(since_parse("now-1hour", NOW, &t), 0);
	assert_int_equal(t, NOW - 3600);
	assert_int_equal(since_parse("today", NOW, &t), 0);
	assert_int_equal(t % 86400, 0);
	for (const char *const *bad = (const char *const[]){ "", "now", "now-", "now-7", "now--7days", "now-7moons",
							     "2026-13-01", "2026-11-30x", "yesterdayish", NULL };
	     *bad; bad++)
		assert_int_equal(since_parse(*bad, NOW, &t), -1);
}

static int write_sample(const char *path)
{
	struct report r = { .now = NOW, .scope = "All jobs", .host = "head", .hidden = 0 };
	FILE *out = fopen(path, "w");

	if (!out)
		return 1;
	report_add(&r, long_job());
	report_add(&r, short_job(4702, "bob", "protein folding"));
	report_add(&r, short_job(4650, "alice", "qmc_scan_17"));
	r.jobs[1]->kept = UINT64_C(41) << 30;
	report_sort(&r);
	report_page(out, &r);
	report_free(&r);
	return fclose(out) != 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_never_markup), cmocka_unit_test(hostile_jobs),
		cmocka_unit_test(a_page_of_its_own),    cmocka_unit_test(an_empty_page),
		cmocka_unit_test(where_a_job_ran),      cmocka_unit_test(epochs_of_the_record),
		cmocka_unit_test(axes_are_round),       cmocka_unit_test(points_in_time),
	};

	return argc > 1 ? write_sample(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
