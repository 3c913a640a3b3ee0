#include "launch/options.h"

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "launch/release.h"
#include "launch/say.h"

#define IMMEDIATE_DEFAULT 600 /* s, as in srun(1) */

enum kind {
	TEXT,      /* a const char * */
	NUMBER,    /* an int that must be positive */
	COUNT,     /* an int that may be 0 */
	FLAG,      /* a bool */
	SPECIAL,   /* options_special() */
	NOTHING,   /* is for the allocation of a job, which exists already: srun takes no notice of it either */
	NO_EFFECT, /* would change what Slurm does for the step, and cannot here: the user is told */
	REFUSED,   /* the step would not do what it is meant to do; why says so */
};

/* Long options without a letter. */
enum {
	OPT_BARE = 256, /* of those whose kind says all; + index */
	OPT_CHECKPOINT = 1024,
	OPT_CPU_BIND,
	OPT_EXACT,
	OPT_EXCLUSIVE,
	OPT_EXTERNAL,
	OPT_GRES,
	OPT_HELP,
	OPT_JOBID,
	OPT_MPI,
	OPT_OPEN_MODE,
	OPT_OVERLAP,
	OPT_PROPAGATE,
	OPT_TRES,
	OPT_USAGE,
};

static const char one_node[] =
	"a job that is checkpointed runs on one node; submit without --checkpoint for several nodes";
static const char use_real[] = "set FSCHED_SRUN=real to use Slurm's srun, during which the job cannot be checkpointed";

#define AT(member) offsetof(struct options, member)

struct row {
	const char *name;
	int letter; /* or one of the numbers above; 0 = neither */
	int has_arg;
	enum kind kind;
	size_t at;
	const char *env; /* input variable of the environment */
	const char *why;
	int since, before; /* releases of Slurm that have this row, 0 = no limit */
};

#define SINCE(year, month)  .since = RELEASE(year, month)
#define BEFORE(year, month) .before = RELEASE(year, month)

/* In the order of the names. A variable of the environment that comes later wins: SLURM_NTASKS over SLURM_NPROCS. */
static const struct row rows[] = {
	{ "accel-bind", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "account", 'A', required_argument, NOTHING },
	{ "acctg-freq", 0, required_argument, NOTHING },
	{ "async", 0, no_argument, REFUSED, 0, NULL, use_real, SINCE(26, 5) },
	{ "autocomplete", OPT_HELP, required_argument, SPECIAL, SINCE(23, 2) },
	{ "bb", 0, required_argument, NOTHING },
	{ "bbf", 0, required_argument, NOTHING },
	{ "bcast", 0, optional_argument, TEXT, AT(bcast), "SLURM_BCAST" },
	{ "bcast-exclude", 0, required_argument, NOTHING },
	{ "begin", 'b', required_argument, NOTHING },
	{ "checkpoint", OPT_CHECKPOINT, required_argument, SPECIAL },
	{ "chdir", 'D', required_argument, TEXT, AT(chdir), "SLURM_WORKING_DIR" },
	{ "cluster-constraint", 0, required_argument, NOTHING },
	{ "clusters", 'M', required_argument, REFUSED, 0, NULL, use_real },
	{ "comment", 0, required_argument, NOTHING },
	{ "compress", 0, optional_argument, NOTHING },
	{ "consolidate-segments", 0, no_argument, NOTHING, SINCE(25, 11) },
	{ "constraint", 'C', required_argument, NOTHING },
	{ "container", 0, required_argument, REFUSED, 0, "SRUN_CONTAINER", use_real },
	{ "container-id", 0, required_argument, REFUSED, 0, "SRUN_CONTAINER_ID", use_real, SINCE(23, 2) },
	{ "container-type", 0, required_argument, REFUSED, 0, "SRUN_CONTAINER_TYPE", use_real, SINCE(26, 5) },
	{ "contiguous", 0, no_argument, NOTHING },
	{ "core-spec", 'S', required_argument, NOTHING },
	{ "cores-per-socket", 0, required_argument, NOTHING },
	{ "cpu-bind", OPT_CPU_BIND, required_argument, TEXT, AT(cpu_bind), "SLURM_CPU_BIND" },
	{ "cpu_bind", OPT_CPU_BIND, required_argument, TEXT, AT(cpu_bind) },
	{ "cpu-freq", 0, required_argument, NO_EFFECT, 0, "SLURM_CPU_FREQ_REQ" },
	{ "cpus-per-gpu", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "cpus-per-task", 'c', required_argument, NUMBER, AT(cpus_per_task), "SRUN_CPUS_PER_TASK", BEFORE(23, 11) },
	{ "cpus-per-task", 'c', required_argument, NUMBER, AT(cpus_per_task), "SLURM_CPUS_PER_TASK", SINCE(23, 11) },
	{ "deadline", 0, required_argument, NOTHING },
	{ "debugger-test", 0, no_argument, REFUSED, 0, NULL, use_real },
	{ "delay-boot", 0, required_argument, NOTHING },
	{ "dependency", 'd', required_argument, NOTHING },
	{ "disable-status", 'X', no_argument, FLAG, AT(disable_status), "SLURM_DISABLE_STATUS" },
	{ "distribution", 'm', required_argument, TEXT, AT(distribution), "SLURM_DISTRIBUTION" },
	{ "epilog", 0, required_argument, TEXT, AT(epilog), "SLURM_EPILOG" },
	{ "error", 'e', required_argument, TEXT, AT(error), "SLURM_STDERRMODE" },
	{ "error", 'e', required_argument, TEXT, AT(error), "SRUN_ERROR", SINCE(23, 2) },
	{ "exact", OPT_EXACT, no_argument, FLAG, AT(exact), "SLURM_EXACT" },
	{ "exclude", 'x', required_argument, NOTHING },
	{ "exclusive", OPT_EXCLUSIVE, optional_argument, SPECIAL, 0, "SLURM_EXCLUSIVE" },
	{ "export", 0, required_argument, TEXT, AT(export_env), "SLURM_EXPORT_ENV" },
	{ "external-launcher", OPT_EXTERNAL, optional_argument, SPECIAL, 0, "SLURM_EXTERNAL_LAUNCHER", SINCE(23, 11) },
	{ "extra", 0, required_argument, NOTHING, SINCE(23, 2) },
	{ "extra-node-info", 'B', required_argument, NOTHING },
	{ "gid", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "gpu-bind", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "gpu-freq", 0, required_argument, NO_EFFECT },
	{ "gpus", 'G', required_argument, REFUSED, 0, NULL, use_real },
	{ "gpus-per-node", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "gpus-per-socket", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "gpus-per-task", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "gres", OPT_GRES, required_argument, SPECIAL },
	{ "gres-flags", 0, required_argument, NOTHING },
	{ "help", OPT_HELP, no_argument, SPECIAL },
	{ "het-group", 0, required_argument, REFUSED, 0, NULL, one_node },
	{ "hint", 0, required_argument, TEXT, AT(hint), "SLURM_HINT" },
	{ "hold", 'H', no_argument, NOTHING },
	{ "ignore-signals", 0, required_argument, REFUSED, 0, NULL, use_real, SINCE(26, 5) },
	{ "immediate", 'I', optional_argument, SPECIAL },
	{ "input", 'i', required_argument, TEXT, AT(input), "SLURM_STDINMODE" },
	{ "input", 'i', required_argument, TEXT, AT(input), "SRUN_INPUT", SINCE(23, 2) },
	{ "job-name", 'J', required_argument, TEXT, AT(job_name), "SLURM_JOB_NAME" },
	{ "jobid", OPT_JOBID, required_argument, SPECIAL },
	{ "kill-on-bad-exit", 'K', optional_argument, SPECIAL, 0, "SLURM_KILL_BAD_EXIT" },
	{ "label", 'l', no_argument, FLAG, AT(label), "SLURM_LABELIO" },
	{ "licenses", 'L', required_argument, NOTHING },
	{ "mail-type", 0, required_argument, NOTHING },
	{ "mail-user", 0, required_argument, NOTHING },
	{ "mcs-label", 0, required_argument, NOTHING },
	{ "mem", 0, required_argument, NOTHING },
	{ "mem-bind", 0, required_argument, TEXT, AT(mem_bind), "SLURM_MEM_BIND" },
	{ "mem-per-cpu", 0, required_argument, NOTHING },
	{ "mem-per-gpu", 0, required_argument, NOTHING },
	{ "mem-update", 0, required_argument, NOTHING, SINCE(26, 5) },
	{ "mincpus", 0, required_argument, NOTHING },
	{ "mpi", OPT_MPI, required_argument, SPECIAL, 0, "SLURM_MPI_TYPE" },
	{ "msg-timeout", 0, required_argument, NOTHING },
	{ "multi-prog", 0, no_argument, FLAG, AT(multi_prog), "SLURM_SRUN_MULTI" },
	{ "network", 0, required_argument, NO_EFFECT, 0, "SLURM_NETWORK" },
	{ "nice", 0, optional_argument, NOTHING },
	{ "no-allocate", 'Z', no_argument, REFUSED, 0, NULL, use_real },
	{ "no-kill", 'k', optional_argument, NOTHING },
	{ "no-requeue", 0, no_argument, NOTHING },
	{ "nodefile", 'F', required_argument, REFUSED, 0, NULL, one_node },
	{ "nodelist", 'w', required_argument, TEXT, AT(nodelist) },
	{ "nodes", 'N', required_argument, SPECIAL, 0, "SLURM_JOB_NUM_NODES" },
	{ "ntasks", 'n', required_argument, NUMBER, AT(ntasks), "SLURM_NPROCS" },
	{ "ntasks", 'n', required_argument, NUMBER, AT(ntasks), "SLURM_NTASKS" },
	{ "ntasks-per-core", 0, required_argument, NUMBER, AT(per_core), BEFORE(23, 2) },
	{ "ntasks-per-core", 0, required_argument, NUMBER, AT(per_core), "SLURM_NTASKS_PER_CORE", SINCE(23, 2) },
	{ "ntasks-per-gpu", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "ntasks-per-node", 0, required_argument, NUMBER, AT(per_node), "SLURM_NTASKS_PER_NODE" },
	{ "ntasks-per-socket", 0, required_argument, NUMBER, AT(per_socket) },
	{ "ntasks-per-tres", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "oom-kill-step", 0, optional_argument, NO_EFFECT, SINCE(24, 11) },
	{ "open-mode", OPT_OPEN_MODE, required_argument, SPECIAL, 0, "SLURM_OPEN_MODE" },
	{ "output", 'o', required_argument, TEXT, AT(output), "SLURM_STDOUTMODE" },
	{ "output", 'o', required_argument, TEXT, AT(output), "SRUN_OUTPUT", SINCE(23, 2) },
	{ "overcommit", 'O', no_argument, FLAG, AT(overcommit), "SLURM_OVERCOMMIT" },
	{ "overlap", OPT_OVERLAP, optional_argument, SPECIAL, 0, "SLURM_OVERLAP" },
	{ "oversubscribe", 's', no_argument, NOTHING },
	{ "pack-group", 0, required_argument, REFUSED, 0, NULL, one_node },
	{ "parsable", 0, no_argument, REFUSED, 0, NULL, use_real, SINCE(26, 5) },
	{ "partition", 'p', required_argument, NOTHING },
	{ "power", 0, required_argument, NOTHING, BEFORE(24, 5) },
	{ "prefer", 0, required_argument, NOTHING },
	{ "preserve-env", 'E', no_argument, FLAG, AT(preserve_env) },
	{ "priority", 0, required_argument, NOTHING },
	{ "profile", 0, required_argument, NO_EFFECT, 0, "SLURM_PROFILE" },
	{ "prolog", 0, required_argument, TEXT, AT(prolog), "SLURM_PROLOG" },
	{ "propagate", OPT_PROPAGATE, optional_argument, SPECIAL },
	{ "pty", 0, no_argument, TEXT, AT(pty), BEFORE(23, 2) },
	{ "pty", 0, optional_argument, TEXT, AT(pty), SINCE(23, 2) },
	{ "qos", 'q', required_argument, NOTHING },
	{ "quiet", 'Q', no_argument, FLAG, AT(quiet) },
	{ "quit-on-interrupt", 0, no_argument, FLAG, AT(quit_on_interrupt) },
	{ "reboot", 0, no_argument, NOTHING },
	{ "relative", 'r', required_argument, SPECIAL },
	{ "requeue", 0, no_argument, NOTHING },
	{ "reservation", 0, required_argument, NOTHING },
	{ "resources", 0, required_argument, NOTHING, SINCE(25, 11) },
	{ "resv-ports", 0, optional_argument, REFUSED, 0, "SLURM_RESV_PORTS", use_real },
	{ "segment", 0, required_argument, NOTHING, SINCE(24, 5) },
	{ "send-libs", 0, optional_argument, NOTHING },
	{ "signal", 0, required_argument, NOTHING },
	{ "slurmd-debug", 0, required_argument, NOTHING },
	{ "sockets-per-node", 0, required_argument, NOTHING },
	{ "spread-job", 0, no_argument, NOTHING },
	{ "spread-segments", 0, no_argument, NOTHING, SINCE(25, 11) },
	{ "stepmgr", 0, no_argument, NOTHING, SINCE(24, 5) },
	{ "switches", 0, required_argument, NOTHING },
	{ "task-epilog", 0, required_argument, TEXT, AT(task_epilog), "SLURM_TASK_EPILOG" },
	{ "task-prolog", 0, required_argument, TEXT, AT(task_prolog), "SLURM_TASK_PROLOG" },
	{ "tasks-per-node", 0, required_argument, NUMBER, AT(per_node) },
	{ "test-only", 0, no_argument, REFUSED, 0, NULL, use_real },
	{ "thread-spec", 0, required_argument, NOTHING },
	{ "threads", 'T', required_argument, NOTHING },
	{ "threads-per-core", 0, required_argument, NUMBER, AT(threads_per_core), "SLURM_THREADS_PER_CORE" },
	{ "time", 't', required_argument, SPECIAL, 0, "SLURM_TIMELIMIT" },
	{ "time-min", 0, required_argument, NOTHING },
	{ "tmp", 0, required_argument, NOTHING },
	{ "treewidth", 0, required_argument, NOTHING, SINCE(23, 11) },
	{ "tres-bind", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "tres-per-task", OPT_TRES, required_argument, SPECIAL, 0, "SLURM_TRES_PER_TASK", SINCE(23, 2) },
	{ "uid", 0, required_argument, REFUSED, 0, NULL, use_real },
	{ "unbuffered", 'u', no_argument, FLAG, AT(unbuffered), "SLURM_UNBUFFEREDIO" },
	{ "usage", OPT_USAGE, no_argument, SPECIAL },
	{ "use-min-nodes", 0, no_argument, NOTHING },
	{ "verbose", 'v', no_argument, SPECIAL, 0, "SLURM_DEBUG" },
	{ "version", 'V', no_argument, SPECIAL },
	{ "wait", 'W', required_argument, COUNT, AT(wait), "SLURM_WAIT" },
	{ "wait-for-children", 0, no_argument, REFUSED, 0, NULL, use_real, SINCE(25, 5) },
	{ "wckey", 0, required_argument, NOTHING },
	{ "whole", 0, no_argument, NOTHING },
	{ "x11", 0, optional_argument, REFUSED, 0, NULL, use_real },
};

/* An environment variable that overrides that of the table. */
static const char srun_export[] = "SRUN_EXPORT_ENV";

static int options_number(const char *name, const char *text, bool positive)
{
	char *end = NULL;
	long n = text ? strtol(text, &end, 10) : 0;

	if (!end || end == text || *end || n < (positive ? 1 : 0)) {
		say_error("Invalid numeric value \"%s\" for %s.", text, name);
		exit(1);
	}
	return n > INT_MAX ? INT_MAX : (int)n;
}

static bool options_digits(const char **p, long *n)
{
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	*n = strtol(*p, &end, 10);
	*p = end;
	return *n <= 100000000;
}

int options_minutes(const char *text)
{
	long f[4] = { 0 }, s;
	const char *p = text;
	bool days;
	int n = 0;

	if (!strcmp(text, "-1") || !strcasecmp(text, "INFINITE") || !strcasecmp(text, "UNLIMITED"))
		return 0;
	if (!options_digits(&p, &f[n++]))
		return -1;
	days = *p == '-';
	while (n < (days ? 4 : 3) && (*p == (n == 1 && days ? '-' : ':'))) {
		p++;
		if (!options_digits(&p, &f[n++]))
			return -1;
	}
	if (*p)
		return -1;
	if (days)
		s = ((f[0] * 24 + f[1]) * 60 + f[2]) * 60 + f[3];
	else if (n == 3)
		s = (f[0] * 60 + f[1]) * 60 + f[2];
	else
		s = f[0] * 60 + f[1];
	return s / 60 >= INT_MAX - 1 ? INT_MAX - 1 : (int)((s + 59) / 60);
}

/* "N", "MIN-MAX" or "MIN-" with k and m as in sbatch are not meant for a step of one node: N and MIN-MAX. */
static void options_nodes(struct options *o, const char *text, bool env)
{
	const char *p = text;
	long min, max;

	if (!options_digits(&p, &min))
		goto invalid;
	max = min;
	if (*p == '-' && p[1]) {
		p++;
		if (!options_digits(&p, &max))
			goto invalid;
	}
	if (*p || max < min)
		goto invalid;
	o->min_nodes = (int)min;
	o->max_nodes = (int)max;
	o->nodes_from_env = env;
	return;
invalid:
	say_error("\"%s\" is not a valid node count", text);
	say_error("invalid node count `%s'", text);
	exit(1);
}

static void options_mpi(struct options *o, const char *text)
{
	static const struct {
		const char *name;
		enum mpi_type type;
	} types[] = { { "none", MPI_NONE },    { "openmpi", MPI_NONE }, { "pmi2", MPI_PMI2 },    { "pmix", MPI_PMIX },
		      { "pmix_v2", MPI_PMIX }, { "pmix_v3", MPI_PMIX }, { "pmix_v4", MPI_PMIX }, { "pmix_v5", MPI_PMIX } };

	if (!strcmp(text, "list")) {
		o->mpi_list = true;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(text, types[i].name)) {
			o->mpi = types[i].type;
			o->mpi_given = true;
			return;
		}
	say_error("Invalid MPI type '%s', --mpi=list for acceptable types", text);
	exit(1);
}

/* "cpu=2,license/a=1": CPUs as -c, licenses as for the job; srun sets SLURM_TRES_PER_TASK with each -c. */
static void options_tres(struct options *o, const char *text, bool env)
{
	for (const char *p = text; *p;) {
		const size_t n = strcspn(p, ",");
		cleanup_free char *word = xasprintf("%.*s", (int)n, p);

		if (!strncasecmp(word, "cpu=", 4) || !strncasecmp(word, "cpu:", 4)) {
			o->cpus_per_task = atoi(word + 4);
			if (o->cpus_per_task <= 0)
				say_fatal("Invalid --tres-per-task=cpu=%d", o->cpus_per_task);
		} else if (strncasecmp(word, "license", 7) != 0) {
			say_error("%s=%s: %s", env ? "SLURM_TRES_PER_TASK" : "--tres-per-task", word, use_real);
			exit(1);
		}
		p += n + (p[n] == ',');
	}
}

static enum options_use options_special(struct options *o, int letter, const char *arg, bool env)
{
	const char *job = getenv("SLURM_JOB_ID");

	switch (letter) {
	case OPT_CHECKPOINT:
		say_error("--checkpoint works with sbatch only: put the commands into a batch script, or leave "
			  "--checkpoint out");
		exit(1);
	case OPT_EXCLUSIVE: o->exact = true; break;
	case OPT_EXTERNAL: o->external = o->overlap = true; break;
	case OPT_OVERLAP: o->overlap = true; break;
	case OPT_GRES:
		if (strcasecmp(arg, "none") != 0) {
			say_error("--gres=%s: %s", arg, use_real);
			exit(1);
		}
		break;
	case OPT_MPI: options_mpi(o, arg); break;
	case OPT_OPEN_MODE:
		if (!strchr("aAtT", *arg) || !*arg) {
			say_error("Invalid --open-mode specification");
			exit(255);
		}
		o->open_mode = tolower((unsigned char)*arg) == 'a' ? OPEN_MODE_APPEND : OPEN_MODE_TRUNCATE;
		break;
	case OPT_TRES: options_tres(o, arg, env); break;
	case OPT_PROPAGATE: o->propagate = arg ? arg : "ALL"; break;
	case 'I': o->immediate = arg ? options_number("immediate", arg, false) : IMMEDIATE_DEFAULT; break;
	case 'K': o->kill_on_bad_exit = arg ? options_number("--kill-on-bad-exit", arg, false) : 1; break;
	case 'N': options_nodes(o, arg, env); break;
	case 'r':
		if (options_number("--relative", arg, false) > 0) {
			say_error("--relative=%s: %s", arg, one_node);
			exit(1);
		}
		break;
	case 't':
		o->time_limit = options_minutes(arg);
		if (o->time_limit < 0) {
			say_error("Invalid --time specification");
			exit(255);
		}
		break;
	case 'v': o->verbose = env ? options_number("--verbose", arg, false) : o->verbose + 1; break;
	case OPT_JOBID: return job && !strcmp(job, arg) ? USE_STEP : USE_SLURM;
	default: return USE_SLURM; /* help, usage, version: the installed Slurm knows best */
	}
	return USE_STEP;
}

static enum options_use options_set(struct options *o, const struct row *r, const char *arg, bool env)
{
	void *const member = (char *)o + r->at;
	char name[48];

	snprintf(name, sizeof(name), "--%s", r->name);
	switch (r->kind) {
	case TEXT: *(const char **)member = arg ? arg : ""; break;
	case NUMBER: *(int *)member = options_number(name, arg, true); break;
	case COUNT: *(int *)member = options_number(name, arg, false); break;
	case FLAG: *(bool *)member = !env || strcasecmp(arg, "no") != 0; break;
	case SPECIAL: return options_special(o, r->letter, arg, env);
	case NOTHING: break;
	case NO_EFFECT: say_info("%s has no effect in a job that is checkpointed", env ? r->env : name); break;
	case REFUSED:
		say_error("%s cannot be used in a job that is checkpointed: %s", env ? r->env : name, r->why);
		exit(1);
	}
	if (r->letter == 'J')
		o->name_given = !env;
	return USE_STEP;
}

/* Whether the srun of this release has the row. */
static bool options_has(const struct row *r)
{
	return LAUNCH_SLURM_VERSION >= r->since && (!r->before || LAUNCH_SLURM_VERSION < r->before);
}

static void options_from_env(struct options *o)
{
	const char *value;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		value = rows[i].env && options_has(&rows[i]) ? getenv(rows[i].env) : NULL;
		if (value)
			options_set(o, &rows[i], value, true);
	}
	value = getenv("SLURM_REMOTE_CWD");
	if (value && !getenv("SLURM_WORKING_DIR"))
		o->chdir = value;
	value = getenv(srun_export);
	if (value)
		o->export_env = value;
}

static int options_value(size_t i)
{
	return rows[i].letter ? rows[i].letter : OPT_BARE + (int)i;
}

/* Letters for getopt_long(): "+" ends the options at the command. */
static void options_letters(char *letters)
{
	*letters++ = '+';
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!rows[i].letter || rows[i].letter >= OPT_BARE || !options_has(&rows[i]))
			continue;
		*letters++ = (char)rows[i].letter;
		for (int c = 0; c < rows[i].has_arg; c++)
			*letters++ = ':';
	}
	*letters++ = 'h';
	*letters = '\0';
}

static enum options_use options_from_command_line(struct options *o, int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(rows) + 1] = { 0 };
	char letters[4 * ARRAY_SIZE(rows)];
	size_t n = 0;
	int c;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (options_has(&rows[i]))
			longs[n++] = (struct option){ rows[i].name, rows[i].has_arg, NULL, options_value(i) };
	options_letters(letters);
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		size_t i = 0;

		if (c == 'h')
			return USE_SLURM;
		while (i < ARRAY_SIZE(rows) && (options_value(i) != c || !options_has(&rows[i])))
			i++;
		if (i == ARRAY_SIZE(rows)) {
			fprintf(stderr, "Try \"srun --help\" for more information\n");
			exit(255);
		}
		if (options_set(o, &rows[i], optarg, false) == USE_SLURM)
			return USE_SLURM;
	}
	o->argc = argc - optind;
	o->argv = argv + optind;
	return USE_STEP;
}

/* ":" separates the parts of a heterogeneous step. */
static void options_check(const struct options *o)
{
	for (int i = 0; i < o->argc; i++)
		if (!strcmp(o->argv[i], ":")) {
			say_error("a heterogeneous step (\":\") cannot be used in a job that is checkpointed: start its parts as "
				  "steps of their own with --exact and &, or use --multi-prog");
			exit(1);
		}
	if (o->pty && (o->input || o->output || o->error)) {
		say_error("--error/--input/--output are incompatible with --pty%s%s", *o->pty ? "=" : "", o->pty);
		exit(1);
	}
	if (o->bcast && o->multi_prog) {
		say_error("--bcast cannot be used with --multi-prog in a job that is checkpointed: copy the programs with cp");
		exit(1);
	}
	if (o->argc == 0 && !o->mpi_list)
		say_fatal("No command given to execute.");
}

enum options_use options_read(struct options *o, int argc, char **argv)
{
	enum options_use use;

	*o = (struct options){ .kill_on_bad_exit = -1, .wait = -1 };
	options_from_env(o);
	use = options_from_command_line(o, argc, argv);
	if (use == USE_SLURM)
		return use;
	say_set_level(o->verbose, o->quiet);
	options_check(o);
	return use;
}
