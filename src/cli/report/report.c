/* fsched report. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/report/html.h"
#include "cli/report/report_collect.h"
#include "cli/report/report_page.h"
#include "cli/report/since.h"
#include "cli/user/job_view.h"

#define COMMAND "report"

struct report_options {
	const char *conf, *output, *user;
	uid_t uid; /* of user */
	int64_t since;
};

static int report_write(const struct report *r, const char *path, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return err_sys(err, errno, "cannot make the page");
	report_page(out, r);
	if (fclose(out) != 0)
		return err_sys(err, errno, "cannot make the page");
	if (path && strcmp(path, "-"))
		return html_write_file(path, text, len, err);
	fwrite(text, 1, len, stdout);
	return 0;
}

static void report_describe_scope(struct report *r, const struct report_options *o, size_t n_ids)
{
	const char *which = n_ids            ? "The jobs that were asked for"
			    : o->user        ? "All jobs of user "
			    : geteuid() == 0 ? "All jobs"
					     : "All jobs of the caller";
	char when[24];

	snprintf(r->scope, sizeof(r->scope), "%s%.64s%s%s%s", which, !n_ids && o->user ? o->user : "",
		 o->since ? " with an event since " : "", o->since ? format_time(o->since, when, sizeof(when)) : "",
		 o->since ? "; counts are of their whole life" : "");
}

static int report_make(const struct conf *c, const struct report_options *o, const uint32_t *ids, size_t n)
{
	const struct report_select select = { .ids = ids, .n_ids = n, .of_user = o->user, .uid = o->uid, .since = o->since };
	struct report r;
	struct err err;
	int rc = report_collect(c, &select, &r, &err);

	report_describe_scope(&r, o, n);
	if (rc == 0)
		rc = report_write(&r, o->output, &err);
	if (rc < 0)
		cli_error(COMMAND, "%s", err.text);
	report_free(&r);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

static int report_read_options(int argc, char **argv, struct report_options *o)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' }, { "since", required_argument, NULL, 's' },
		{ "user", required_argument, NULL, 'u' },   { "conf", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },         { 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "o:S:u:h", options, NULL)) != -1)
		switch (c) {
		case 'o': o->output = optarg; break;
		case 's':
		case 'S':
			if (since_parse(optarg, (int64_t)time(NULL), &o->since) < 0)
				return cli_usage(COMMAND,
						 "--since needs a time such as 2026-11-30, 2026-11-30T18:00 or now-7days, not \"%s\"",
						 optarg) +
				       1;
			break;
		case 'u': o->user = optarg; break;
		case 'c': o->conf = optarg; break;
		case 'h': return cli_help(COMMAND) + 1;
		default: return cli_bad_option(COMMAND) + 1;
		}
	if (!o->output && isatty(STDOUT_FILENO))
		return cli_usage(COMMAND, "give a file for the page: -o report.html") + 1;
	return 0;
}

int report_cmd(int argc, char **argv)
{
	cleanup_free struct job_ref *refs = NULL;
	cleanup_free uint32_t *ids = NULL;
	struct report_options o = { 0 };
	size_t n_refs = 0, n = 0;
	struct conf conf;
	struct err err;
	int rc = report_read_options(argc, argv, &o);

	if (rc)
		return rc - 1;
	for (int i = optind; i < argc; i++)
		if (ids_parse(argv[i], &refs, &n_refs, &err) < 0)
			return cli_usage(COMMAND, "%s", err.text);
	if (cli_conf(COMMAND, o.conf, &conf) < 0)
		return CLI_FAILED;
	if ((o.user && cli_user(o.user, &o.uid, &err) < 0) || view_resolve(refs, n_refs, &ids, &n, &err) < 0) {
		cli_error(COMMAND, "%s", err.text);
		return CLI_FAILED;
	}
	return report_make(&conf, &o, ids, n);
}
