/* fsched advise: how often checkpoints of a job pay, and why (policy/auto_interval.h). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interval.h"
#include "base/json.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/user/job_view.h"
#include "policy/auto_interval.h"
#include "store/history.h"

#define COMMAND "advise"

struct advice {
	struct auto_bounds bounds;
	struct auto_cost cost;
	struct auto_advice auto_advice;
	int64_t used; /* s: the job's interval at present; 0: on request only, or not known */
	bool automatic;
};

static int advise_load(const struct view *v, const struct conf *c, struct advice *a, struct err *err)
{
	cleanup_free struct job_history *h = xcalloc(1, sizeof(*h));
	const int64_t given = v->enabled ? v->status.interval : v->rec.interval;

	if (!v->on_disk || v->foreign)
		return err_set(err, 0, "%s", v->foreign ? "its directory is of an older job" : v->disk_err.text);
	if (history_load(v->store.path, geteuid() != 0, h, err) < 0 && err->num != ENOENT)
		return -1;
	a->bounds = (struct auto_bounds){ .mtbf = c->mtbf, .min = c->min_interval, .max = c->auto_max };
	auto_cost_of(h, &a->cost);
	auto_advise(&a->cost, &a->bounds, &a->auto_advice);
	a->automatic = given == INTERVAL_AUTO;
	a->used = !a->automatic ? given : v->enabled ? v->status.every : 0;
	return 0;
}

/* ---- for people: four lines ---- */

static void advise_print_cost(const struct advice *a)
{
	char cost[32], frozen[32], slower[32];

	if (!a->cost.samples) {
		puts("Cost:      not known yet: no checkpoint was made after which the job ran on");
		return;
	}
	printf("Cost:      %s of work for each: frozen for %s, slower for %s (mean of %u)\n",
	       format_duration(a->cost.cost_us, cost, sizeof(cost)),
	       format_duration(a->cost.frozen_us, frozen, sizeof(frozen)),
	       format_duration(a->cost.total_us - a->cost.frozen_us, slower, sizeof(slower)), a->cost.samples);
}

/* ", which costs 0.012 % of its time" */
static const char *advise_loss_text(const struct advice *a, int64_t interval, char *buf, size_t len)
{
	*buf = '\0';
	if (a->cost.samples && interval > 0)
		snprintf(buf, len, ", which costs %.3g %% of its time",
			 100 * auto_loss(&a->cost, a->bounds.mtbf, interval));
	return buf;
}

/* " (CheckpointAutoMax; the optimum is 06:00:00)" */
static const char *advise_bound_text(const struct advice *a, char *buf, size_t len)
{
	static const char *const why[] = {
		[AUTO_UNKNOWN] = "the first one",
		[AUTO_AT_BUSY] = "ten times as long as a checkpoint takes",
		[AUTO_AT_MIN] = "CheckpointMinInterval",
		[AUTO_AT_MAX] = "CheckpointAutoMax",
	};
	const enum auto_bound b = a->auto_advice.bound;
	char optimum[24];

	*buf = '\0';
	if (b == AUTO_UNKNOWN)
		snprintf(buf, len, " (%s)", why[b]);
	else if (b != AUTO_OPTIMUM)
		snprintf(buf, len, " (%s; the optimum is %s)", why[b],
			 interval_format(a->auto_advice.optimum, optimum, sizeof(optimum)));
	return buf;
}

static void advise_print(const struct advice *a)
{
	char interval[24], loss[64], bound[96];

	advise_print_cost(a);
	printf("Failures:  one in %s for each node (CheckpointMTBF)\n",
	       interval_format(a->bounds.mtbf, interval, sizeof(interval)));
	printf("Advice:    every %s%s%s\n", interval_format(a->auto_advice.interval, interval, sizeof(interval)),
	       advise_bound_text(a, bound, sizeof(bound)),
	       advise_loss_text(a, a->auto_advice.interval, loss, sizeof(loss)));
	if (a->used)
		interval_format(a->used, interval, sizeof(interval));
	printf("Interval:  %s%s\n",
	       a->used        ? interval
	       : a->automatic ? "auto, and the job does not run"
			      : "on request only (UNLIMITED)",
	       advise_loss_text(a, a->used, loss, sizeof(loss)));
}

/* ---- for programs ---- */

static json_t *advise_loss_json(const struct advice *a, int64_t interval)
{
	return a->cost.samples && interval > 0 ? json_real(auto_loss(&a->cost, a->bounds.mtbf, interval)) : json_null();
}

static json_t *advise_json(const struct view *v, const struct advice *a)
{
	return json_pack("{s:I, s:o, s:I, s:o, s:o, s:o, s:I, s:o, s:I, s:o, s:o, s:b, s:o, s:o}", "job_id",
			 (json_int_t)v->id, "label", json_text(v->label), "checkpoints", (json_int_t)a->cost.samples,
			 "frozen_us", json_out_known(a->cost.frozen_us), "total_us", json_out_known(a->cost.total_us),
			 "cost_us", json_out_known(a->cost.cost_us), "mtbf_s", (json_int_t)a->bounds.mtbf, "optimum_s",
			 json_out_known(a->auto_advice.optimum), "advice_s", (json_int_t)a->auto_advice.interval,
			 "bound", json_out_text(auto_bound_name(a->auto_advice.bound)), "interval_s",
			 json_out_known(a->used), "interval_auto", a->automatic, "advice_loss",
			 advise_loss_json(a, a->auto_advice.interval), "interval_loss", advise_loss_json(a, a->used));
}

/* ---- the command ---- */

static int advise_jobs(const struct conf *c, const uint32_t *ids, size_t n, json_t *list)
{
	int rc = CLI_OK;

	for (size_t i = 0; i < n; i++) {
		struct view *v = view_load(c, ids[i]);
		struct advice a;
		struct err err;

		if (advise_load(v, c, &a, &err) < 0) {
			cli_error(COMMAND, "job %s: %s", v->label, err.text);
			rc = CLI_FAILED;
		} else if (list) {
			json_array_append_new(list, advise_json(v, &a));
		} else {
			if (n > 1)
				printf("%sjob %s\n", i ? "\n" : "", v->label);
			advise_print(&a);
		}
		view_free(v);
	}
	return rc;
}

static int advise_ids(char **argv, int argc, uint32_t **ids, size_t *n)
{
	cleanup_free struct job_ref *refs = NULL;
	size_t n_refs = 0;
	struct err err;

	for (int i = 0; i < argc; i++)
		if (ids_parse(argv[i], &refs, &n_refs, &err) < 0)
			return cli_usage(COMMAND, "%s", err.text);
	if (view_resolve(refs, n_refs, ids, n, &err) == 0)
		return CLI_OK;
	cli_error(COMMAND, "%s", err.text);
	return CLI_FAILED;
}

int advise_cmd(int argc, char **argv)
{
	cleanup_json json_t *root = NULL;
	cleanup_free uint32_t *ids = NULL;
	const char *path = NULL;
	struct conf conf;
	bool json = false;
	json_t *list = NULL;
	size_t n = 0;
	int rc = cli_json_option(COMMAND, argc, argv, &path, &json);

	if (rc)
		return rc - 1;
	if (optind >= argc)
		return cli_usage(COMMAND, "which job? give its id");
	if (cli_conf(COMMAND, path, &conf) < 0)
		return CLI_FAILED;
	rc = advise_ids(argv + optind, argc - optind, &ids, &n);
	if (rc != CLI_OK)
		return rc;
	if (json) {
		root = json_out_new(COMMAND, 1);
		json_object_set_new(root, "jobs", list = json_array());
	}
	rc = advise_jobs(&conf, ids, n, list);
	if (json)
		json_out_print(root);
	return rc;
}
