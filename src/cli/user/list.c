/* fsched list, fsched show. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/user/job_json.h"
#include "cli/user/job_view.h"
#include "cli/user/list_jobs.h"
#include "cli/user/list_json.h"
#include "base/interval.h"
#include "base/text.h"
#include "base/clock.h"
#include "base/util.h"
#include "store/proofs.h"
#include "store/steps.h"

#define STEPS_SHOWN 20 /* of those that have ended */

static int read_ids(const char *command, char **argv, int argc, uint32_t **ids, size_t *n)
{
	cleanup_free struct job_ref *refs = NULL;
	size_t n_refs = 0;
	struct err err;

	for (int i = 0; i < argc; i++)
		if (ids_parse(argv[i], &refs, &n_refs, &err) < 0)
			return cli_usage(command, "%s", err.text);
	if (view_resolve(refs, n_refs, ids, n, &err) < 0) {
		cli_error(command, "%s", err.text);
		return CLI_FAILED;
	}
	return CLI_OK;
}

static int list_epochs(const struct conf *c, const uint32_t *ids, size_t n)
{
	int rc = CLI_OK;

	for (size_t i = 0; i < n; i++) {
		struct view *v = view_load(c, ids[i]);
		struct err err;

		if (n > 1)
			printf("%sjob %s\n", i ? "\n" : "", v->label);
		if (view_print_epochs(v, &err) < 0) {
			cli_error("list", "%s", err.text);
			rc = CLI_FAILED;
		}
		view_free(v);
	}
	return rc;
}

/* Returns 0, or the exit status + 1 with which the program is to end. */
static int list_options(int argc, char **argv, const char **conf, bool *all, bool *json)
{
	static const struct option options[] = { { "all", no_argument, NULL, 'a' },
						 { "json", no_argument, NULL, 'j' },
						 { "conf", required_argument, NULL, 'c' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "ah", options, NULL)) != -1)
		switch (c) {
		case 'a': *all = true; break;
		case 'j': *json = true; break;
		case 'c': *conf = optarg; break;
		case 'h': return cli_help("list") + 1;
		default: return cli_bad_option("list") + 1;
		}
	if (*all && (*json || optind < argc))
		return cli_usage("list", "give either %s or --all", *json ? "--json" : "job ids") + 1;
	return 0;
}

int list_cmd(int argc, char **argv)
{
	cleanup_free uint32_t *ids = NULL;
	const char *path = NULL;
	struct conf conf;
	size_t n = 0;
	bool all = false, json = false;
	int rc = list_options(argc, argv, &path, &all, &json);

	if (rc)
		return rc - 1;
	if (cli_conf("list", path, &conf) < 0)
		return CLI_FAILED;
	if (optind >= argc)
		return json ? list_json(&conf, NULL, 0) : list_jobs(&conf, all);
	rc = read_ids("list", argv + optind, argc - optind, &ids, &n);
	if (rc == CLI_OK && json)
		return list_json(&conf, ids, n);
	return rc == CLI_OK ? list_epochs(&conf, ids, n) : rc;
}

static void print_status(const struct view *v)
{
	char interval[32], when[32], shown[sizeof(v->status.error)];
	const struct status *s = &v->status;

	printf("State:     %s\n", status_state_text(s));
	printf("Interval:  %s", interval_format(s->interval, interval, sizeof(interval)));
	if (s->every)
		printf(", %s at present", interval_format(s->every, interval, sizeof(interval)));
	printf("\nSkipped:   %u for load\n", s->skipped);
	if (s->failed)
		printf("Failed:    %u since %s\n", s->failed, format_time(s->failed_since, when, sizeof(when)));
	if (*s->memory)
		printf("Memory:    %s\n", printable(s->memory, shown, sizeof(shown)));
	if (s->restored)
		printf("Restored:  from epoch %u\n", s->restored);
	if (*s->error)
		printf("Error:     %s\n", printable(s->error, shown, sizeof(shown)));
}

static void print_record(const struct view *v)
{
	char interval[32], user[64];

	printf("User:      %s\n", printable(v->rec.user, user, sizeof(user)));
	if (!v->enabled) {
		printf("State:     %s\n", intent_name(v->rec.intent));
		printf("Interval:  %s\n", interval_format(v->rec.interval, interval, sizeof(interval)));
		printf("Skipped:   %u for load\n", v->rec.skipped);
	}
	printf("Directory: %s\nLog:       %s\n", v->store.path, v->log);
}

static const char *step_exit(int status, char *buf, size_t len)
{
	if (WIFSIGNALED(status))
		snprintf(buf, len, "signal %d", WTERMSIG(status));
	else
		snprintf(buf, len, "%d", WEXITSTATUS(status));
	return buf;
}

/* A step may take no second. */
static const char *step_elapsed(const struct step_summary *t, char *buf, size_t len)
{
	return t->ended > t->began ? interval_format(t->ended - t->began, buf, len) : "00:00:00";
}

/* What the launchers of the job have written, as of when the agent looked last. */
static void print_steps(const struct view *v)
{
	cleanup_free struct job_steps *s = xcalloc(1, sizeof(*s));
	char when[32], took[32], how[32], size[32], name[64];

	if (steps_load(v->store.path, geteuid() != 0, s, NULL) < 0)
		return;
	printf("Steps:     %lld ended, %lld failed, %u running\n", (long long)s->ended, (long long)s->failed, s->running);
	if (!s->n)
		return;
	printf("%8s  %-20s  %5s  %-19s  %10s  %9s  %10s\n", "STEP", "NAME", "TASKS", "BEGAN", "ELAPSED", "EXIT",
	       "MAXRSS");
	for (unsigned i = s->n > STEPS_SHOWN ? s->n - STEPS_SHOWN : 0; i < s->n; i++) {
		const struct step_summary *t = &s->v[i];

		printf("%8d  %-20.20s  %5d  %-19s  %10s  %9s  %10s\n", t->step, printable(t->name, name, sizeof(name)),
		       t->ntasks, view_time(t->began, when, sizeof(when)), step_elapsed(t, took, sizeof(took)),
		       step_exit(t->status, how, sizeof(how)), format_size(t->max_rss << 10, size, sizeof(size)));
	}
}

/* The epochs that a restore has proved, or not. */
static void print_proofs(const struct view *v)
{
	cleanup_free struct proofs *all = proofs_new(v->store.path, geteuid() != 0);
	char text[PROOF_TEXT];

	for (unsigned i = 0; i < v->rec.n_epochs; i++) {
		const struct proof *p = proofs_find(all, v->rec.epochs[i].number, v->rec.epochs[i].time);

		if (p)
			printf("Proved:    epoch %u %s\n", p->epoch, proof_text(p, text));
	}
}

static bool never_ran(const struct view *v)
{
	return v->in_slurm && v->job.pending && v->job.restart_count == 0;
}

static int show_job(const struct view *v)
{
	struct err err;

	if (v->on_disk && !v->foreign)
		printf("Job:       %s\n", v->label);
	else if (v->enabled)
		printf("Job:       %s (%s)\n", v->label,
		       v->foreign     ? "the directory in JobCheckpointDir is of an older job with this id"
		       : never_ran(v) ? "it has not run yet"
				      : v->disk_err.text);
	if (v->in_slurm && v->enabled)
		printf("Slurm:     %s%s%s%s\n", v->job.state, v->job.held ? " (held)" : "",
		       *v->job.batch_host ? " on " : "", v->job.batch_host);
	if (v->enabled)
		print_status(v);
	if (v->on_disk && !v->foreign)
		print_record(v);
	if (v->on_disk && !v->foreign)
		print_steps(v);
	if (v->on_disk && !v->foreign)
		print_proofs(v);
	if (view_print_epochs(v, &err) == 0)
		return CLI_OK;
	cli_error("show", "%s", err.text);
	return CLI_FAILED;
}

static int show_one(const struct conf *c, uint32_t id, unsigned epoch)
{
	struct view *v = view_load(c, id);
	struct err err;
	int rc = CLI_OK;

	if (!epoch) {
		rc = show_job(v);
	} else if (view_print_epoch(v, epoch, &err) < 0) {
		cli_error("show", "%s", err.text);
		rc = CLI_FAILED;
	}
	view_free(v);
	return rc;
}

static int show_json(const struct conf *c, const uint32_t *ids, size_t n, unsigned epoch)
{
	json_t *root = json_out_new("show", 1), *jobs = json_array();
	int rc = CLI_OK;

	for (size_t i = 0; i < n; i++) {
		struct view *v = view_load(c, ids[i]);
		struct err err;
		json_t *o = epoch ? job_json_epoch(v, epoch, &err) : job_json(v, &err);

		if (!o) {
			cli_error("show", "%s", err.text);
			rc = CLI_FAILED;
		} else {
			json_array_append_new(jobs, o);
		}
		view_free(v);
	}
	json_object_set_new(root, "jobs", jobs);
	json_out_print(root);
	json_decref(root);
	return rc;
}

int show_cmd(int argc, char **argv)
{
	cleanup_free uint32_t *ids = NULL;
	const char *path = NULL;
	struct conf conf;
	size_t n = 0;
	long epoch = 0;
	bool json = false;
	int rc = cli_json_option("show", argc, argv, &path, &json);

	if (rc)
		return rc - 1;
	if (optind >= argc)
		return cli_usage("show", "which job? give its id");
	if (argc - optind > 2)
		return cli_usage("show", "unexpected argument \"%s\"", argv[optind + 2]);
	if (argc - optind == 2 && cli_number(argv[optind + 1], 1, 999999, &epoch) < 0)
		return cli_usage("show", "\"%s\" is no epoch; give its number", argv[optind + 1]);
	if (cli_conf("show", path, &conf) < 0)
		return CLI_FAILED;
	rc = read_ids("show", argv + optind, 1, &ids, &n);
	if (rc == CLI_OK && json)
		return show_json(&conf, ids, n, (unsigned)epoch);
	for (size_t i = 0; rc == CLI_OK && i < n; i++) {
		if (i)
			putchar('\n');
		rc = show_one(&conf, ids[i], (unsigned)epoch);
	}
	return rc;
}
