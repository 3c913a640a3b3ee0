#include "cli/qualify/options.h"

#include <getopt.h>
#include <inttypes.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/interval.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/user/prune_select.h"

#define COMMAND            "qualify"

#define DEFAULT_CYCLES     3
#define DEFAULT_COPY_LIMIT (UINT64_C(1) << 30)
#define DEFAULT_QUEUE_WAIT 3600
#define DEFAULT_RUN_WAIT   86400

enum {
	OPT_SEED = 256,
	OPT_EVENTS,
	OPT_FAIL,
	OPT_SAME_NODE,
	OPT_COMPARE,
	OPT_IGNORE,
	OPT_COMMAND,
	OPT_COPY,
	OPT_NO_COPY,
	OPT_COPY_LIMIT,
	OPT_DIRECTORY,
	OPT_KEEP,
	OPT_QUEUE_WAIT,
	OPT_RUN_WAIT,
	OPT_REQUEST_WAIT,
	OPT_LIMIT,
	OPT_JSON,
	OPT_HTML,
	OPT_CONF,
};

/* clang-format off */
static const struct option options_long[] = {
	{ "cycles",          required_argument, NULL, 'n' },
	{ "seed",            required_argument, NULL, OPT_SEED },
	{ "events",          required_argument, NULL, OPT_EVENTS },
	{ "fail",            required_argument, NULL, OPT_FAIL },
	{ "same-node",       no_argument,       NULL, OPT_SAME_NODE },
	{ "compare",         required_argument, NULL, OPT_COMPARE },
	{ "ignore",          required_argument, NULL, OPT_IGNORE },
	{ "compare-command", required_argument, NULL, OPT_COMMAND },
	{ "copy",            required_argument, NULL, OPT_COPY },
	{ "no-copy",         no_argument,       NULL, OPT_NO_COPY },
	{ "copy-limit",      required_argument, NULL, OPT_COPY_LIMIT },
	{ "directory",       required_argument, NULL, OPT_DIRECTORY },
	{ "keep",            no_argument,       NULL, OPT_KEEP },
	{ "queue-wait",      required_argument, NULL, OPT_QUEUE_WAIT },
	{ "run-wait",        required_argument, NULL, OPT_RUN_WAIT },
	{ "request-wait",    required_argument, NULL, OPT_REQUEST_WAIT },
	{ "limit",           required_argument, NULL, OPT_LIMIT },
	{ "json",            no_argument,       NULL, OPT_JSON },
	{ "html",            required_argument, NULL, OPT_HTML },
	{ "quiet",           no_argument,       NULL, 'Q' },
	{ "conf",            required_argument, NULL, OPT_CONF },
	{ "help",            no_argument,       NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};
/* clang-format on */

static int options_time(const char *name, const char *text, int64_t *seconds)
{
	struct err err;

	if (interval_parse(text, seconds, &err) == 0 && *seconds != INTERVAL_ON_REQUEST)
		return 0;
	return cli_usage(COMMAND, "%s needs a time such as 30 (minutes), 1:30 or 2:00:00, not \"%s\"", name, text) + 1;
}

static int options_seed(const char *text, uint64_t *seed)
{
	char *end;

	errno = 0;
	*seed = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno && *seed <= INT64_MAX)
		return 0;
	return cli_usage(COMMAND, "--seed needs a number from 0 to %" PRId64 ", not \"%s\"", INT64_MAX, text) + 1;
}

static int options_events(const char *text, struct qualify_options *o)
{
	o->vacate = strcmp(text, "vacate") == 0 || strcmp(text, "vacate,fail") == 0 || strcmp(text, "fail,vacate") == 0;
	o->failures = strcmp(text, "fail") == 0 || (o->vacate && strcmp(text, "vacate") != 0);
	if (o->vacate || o->failures)
		return 0;
	return cli_usage(COMMAND, "--events needs vacate, fail, or vacate,fail, not \"%s\"", text) + 1;
}

static int options_fail(const char *text, enum qualify_fail *fail)
{
	for (int f = QUALIFY_KILL; f <= QUALIFY_NODE; f++)
		if (strcmp(text, qualify_fail_name((enum qualify_fail)f)) == 0) {
			*fail = (enum qualify_fail)f;
			return 0;
		}
	return cli_usage(COMMAND, "--fail needs kill, requeue or node, not \"%s\"", text) + 1;
}

/* A name below the working directory, without a way out of it. */
static int options_add_name(const char *name, struct qualify_options *o)
{
	const size_t n = strlen(name);

	if (!n || *name == '/' || strcmp(name, "..") == 0 || strncmp(name, "../", 3) == 0 || strstr(name, "/../") ||
	    (n > 2 && strcmp(name + n - 3, "/..") == 0))
		return cli_usage(COMMAND,
				 "--compare needs a name relative to the script's working directory, not \"%s\"", name) +
		       1;
	o->compare = xrealloc(o->compare, (o->n_compare + 1) * sizeof(*o->compare));
	o->compare[o->n_compare++] = name;
	return 0;
}

static int options_read_files(int c, struct qualify_options *o)
{
	switch (c) {
	case OPT_COMPARE: return options_add_name(optarg, o);
	case OPT_IGNORE:
		o->ignore.ignore = xrealloc(o->ignore.ignore, (o->ignore.n + 1) * sizeof(*o->ignore.ignore));
		o->ignore.ignore[o->ignore.n++] = optarg;
		return 0;
	case OPT_COMMAND: o->command = optarg; return 0;
	case OPT_COPY: o->copy = optarg; return 0;
	case OPT_NO_COPY: o->copy = NULL; return 0;
	case OPT_DIRECTORY: o->directory = optarg; return 0;
	case OPT_KEEP: o->keep = true; return 0;
	case OPT_HTML: o->html = optarg; return 0;
	default:
		if (prune_parse_size(optarg, &o->copy_limit) == 0)
			return 0;
		return cli_usage(COMMAND, "--copy-limit needs a size such as 500M or 10G, not \"%s\"", optarg) + 1;
	}
}

static int options_read_one(int c, struct qualify_options *o)
{
	long n;

	switch (c) {
	case 'n':
		if (cli_number(optarg, 1, QUALIFY_CYCLES_MAX, &n) < 0)
			return cli_usage(COMMAND, "--cycles needs a number from 1 to %d, not \"%s\"",
					 QUALIFY_CYCLES_MAX, optarg) +
			       1;
		o->cycles = (unsigned)n;
		return 0;
	case OPT_SEED: return options_seed(optarg, &o->seed);
	case OPT_EVENTS: return options_events(optarg, o);
	case OPT_FAIL: return options_fail(optarg, &o->fail);
	case OPT_SAME_NODE: o->same_node = true; return 0;
	case OPT_QUEUE_WAIT: return options_time("--queue-wait", optarg, &o->queue_wait);
	case OPT_RUN_WAIT: return options_time("--run-wait", optarg, &o->run_wait);
	case OPT_REQUEST_WAIT: return options_time("--request-wait", optarg, &o->request_wait);
	case OPT_LIMIT: return options_time("--limit", optarg, &o->limit);
	case OPT_JSON: o->json = true; return 0;
	case OPT_CONF: o->conf = optarg; return 0;
	case 'Q': o->quiet = true; return 0;
	case 'h': return cli_help(COMMAND) + 1;
	case '?': return cli_bad_option(COMMAND) + 1;
	default: return options_read_files(c, o);
	}
}

/* script.sh [options of sbatch] [-- arguments of the script] */
static int options_read_operands(int argc, char **argv, struct qualify_options *o)
{
	if (optind >= argc)
		return cli_usage(COMMAND, "which script?") + 1;
	o->script = argv[optind++];
	o->sbatch = argv + optind;
	while (optind < argc && strcmp(argv[optind], "--") != 0) {
		optind++;
		o->n_sbatch++;
	}
	if (optind < argc) {
		o->args = argv + optind + 1;
		o->n_args = (size_t)(argc - optind - 1);
	}
	return 0;
}

static int options_check_all(const struct qualify_options *o)
{
	if (o->command && o->n_compare)
		return cli_usage(COMMAND, "give either --compare or --compare-command") + 1;
	if (o->fail == QUALIFY_NODE && geteuid() != 0)
		return cli_usage(COMMAND, "--fail node sets a node DOWN, which only root may do; use kill or requeue") +
		       1;
	if (!*o->script || strcmp(o->script, "-") == 0)
		return cli_usage(COMMAND, "the script must be a file") + 1;
	return 0;
}

int options_read(int argc, char **argv, struct qualify_options *o)
{
	int c, rc = 0;

	*o = (struct qualify_options){ .cycles = DEFAULT_CYCLES,
				       .seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000,
				       .vacate = true,
				       .failures = true,
				       .copy = ".",
				       .copy_limit = DEFAULT_COPY_LIMIT,
				       .queue_wait = DEFAULT_QUEUE_WAIT,
				       .run_wait = DEFAULT_RUN_WAIT };
	while (rc == 0 && (c = getopt_long(argc, argv, "+n:Qh", options_long, NULL)) != -1)
		rc = options_read_one(c, o);
	if (rc == 0)
		rc = options_read_operands(argc, argv, o);
	return rc ? rc : options_check_all(o);
}

void options_free(struct qualify_options *o)
{
	free(o->compare);
	free(o->ignore.ignore);
}
