/* `fsched checkpoint OP ID[,ID…]`, which is also `scontrol checkpoint OP ID[,ID…]`. */
#include "cli/user/checkpoint.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/job_ids.h"
#include "cli/user/interrupt.h"
#include "base/slurmconf.h"
#include "base/util.h"

#define COMMAND "checkpoint"

/* Operations, and the number of letters of each that the versions of Slurm with `scontrol checkpoint` required. run
 * NULL: an operation of these versions only. */
static const struct operation {
	const char *name;
	size_t letters;
	int (*run)(const struct request *r, struct target *t);
	const char *instead;
	/* clang-format off */
} operations[] = {
	{ "able",    1, op_able,    NULL },
	{ "create",  2, op_create,  NULL },
	{ "error",   2, op_error,   NULL },
	{ "restart", 2, op_restart, NULL },
	{ "vacate",  2, op_vacate,  NULL },
	{ "disable", 1, NULL, "whether a job can be checkpointed is fixed at submission (sbatch --checkpoint)" },
	{ "enable",  2, NULL, "whether a job can be checkpointed is fixed at submission (sbatch --checkpoint)" },
	{ "requeue", 2, NULL, "use `vacate' and then `restart'" },
	{ "tasks",   2, NULL, "only whole jobs are checkpointed: use `create'" },
};
/* clang-format on */

enum { OPT_EPOCH = 256, OPT_NO_WAIT, OPT_TIMEOUT, OPT_CONF, OPT_JSON, OPT_IGNORED };
/* clang-format off */
static const struct option long_options[] = {
	{ "epoch",    required_argument, NULL, OPT_EPOCH },
	{ "no-wait",  no_argument,       NULL, OPT_NO_WAIT },
	{ "timeout",  required_argument, NULL, OPT_TIMEOUT },
	{ "conf",     required_argument, NULL, OPT_CONF },
	{ "json",     no_argument,       NULL, OPT_JSON },
	{ "quiet",    no_argument,       NULL, 'Q' },
	{ "verbose",  no_argument,       NULL, OPT_IGNORED },
	{ "cluster",  required_argument, NULL, 'M' },
	{ "clusters", required_argument, NULL, 'M' },
	{ "uid",      required_argument, NULL, 'u' },
	{ "help",     no_argument,       NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};
/* clang-format on */

struct command_line {
	struct request r;
	const struct operation *op;
	const char *conf;
	bool json;
	struct job_ref *refs;
	size_t n_refs;
};

static const struct operation *checkpoint_find_operation(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		if (len >= operations[i].letters && len <= strlen(operations[i].name) &&
		    strncasecmp(operations[i].name, name, len) == 0)
			return &operations[i];
	return NULL;
}

static int read_number(const char *option, const char *text, long max, long *out)
{
	if (cli_number(text, 1, max, out) == 0)
		return CLI_OK;
	return cli_usage(COMMAND, "%s needs a number from 1 to %ld, not \"%s\"", option, max, text);
}

static int read_option(int c, struct command_line *l)
{
	long n = 0;
	int rc = CLI_OK;

	switch (c) {
	case OPT_EPOCH:
		rc = read_number("--epoch", optarg, 999999, &n);
		l->r.epoch = (unsigned)n;
		break;
	case OPT_TIMEOUT:
		rc = read_number("--timeout", optarg, 7 * 86400, &n);
		l->r.timeout_s = (int)n;
		break;
	case OPT_NO_WAIT: l->r.wait = false; break;
	case OPT_CONF: l->conf = optarg; break;
	case OPT_JSON: l->json = true; break;
	case 'Q': l->r.quiet = true; break;
	case OPT_IGNORED: break;
	case 'M':
		return cli_usage(COMMAND,
				 "-M is not supported: a job can only be checkpointed from a host of its own cluster");
	case 'u': return cli_usage(COMMAND, "-u is not supported: a request is always made as the user who makes it");
	default: return cli_bad_option(COMMAND);
	}
	return rc;
}

/* Refuses arguments of those versions of Slurm with a message that names the replacement. */
static int refuse_old_argument(const char *text)
{
	if (strncasecmp(text, "MaxWait=", 8) == 0)
		return cli_usage(COMMAND, "%s is old Slurm's; use --timeout SECONDS", text);
	if (strncasecmp(text, "ImageDir=", 9) == 0)
		return cli_usage(COMMAND, "%s is old Slurm's; epochs are kept in JobCheckpointDir of fsched.conf", text);
	if (strcasecmp(text, "StickToNodes") == 0)
		return cli_usage(COMMAND, "%s is old Slurm's; use: scontrol update JobId=ID ReqNodeList=NODE", text);
	return CLI_OK;
}

static int read_operands(int argc, char **argv, struct command_line *l)
{
	struct err err;

	if (optind >= argc)
		return cli_usage(COMMAND, "which operation? one of create, vacate, restart, able, error");
	l->op = checkpoint_find_operation(argv[optind]);
	if (!l->op)
		return cli_usage(COMMAND, "\"%s\" is no operation; there are create, vacate, restart, able, error",
				 argv[optind]);
	if (!l->op->run)
		return cli_usage(COMMAND, "`%s' of old Slurm does not exist here; %s", l->op->name, l->op->instead);
	l->r.op = l->op->name;
	if (++optind >= argc)
		return cli_usage(COMMAND, "%s which job? give its id", l->op->name);
	for (int i = optind; i < argc; i++) {
		int rc = refuse_old_argument(argv[i]);

		if (rc != CLI_OK)
			return rc;
		if (ids_parse(argv[i], &l->refs, &l->n_refs, &err) < 0)
			return cli_usage(COMMAND, "%s", err.text);
	}
	if (l->r.epoch && l->op->run != op_restart)
		return cli_usage(COMMAND, "--epoch is an option of restart only");
	if (l->json && l->op->run != op_able)
		return cli_usage(COMMAND, "--json is an option of able only");
	return CLI_OK;
}

static int run_job(const struct command_line *l, uint32_t id)
{
	struct target t = { .id = id };
	struct err err;
	int rc;

	snprintf(t.label, sizeof(t.label), "job %u", id);
	progress_start(&t.progress, t.label, l->r.quiet);
	if (target_load(&t, &err) < 0)
		rc = target_fail(&t, "%s", err.text);
	else
		rc = l->op->run(&l->r, &t);
	progress_end(&t.progress);
	interrupt_silent();
	target_free(&t);
	return rc;
}

/* CLI_FAILED takes precedence over CLI_LATER. */
static int worse_status(int a, int b)
{
	if (a == CLI_FAILED || b == CLI_FAILED)
		return CLI_FAILED;
	return a > b ? a : b;
}

static int fail_ref(const struct err *err)
{
	cli_error(COMMAND, "%s", err->text);
	return CLI_FAILED;
}

/* For a task that has no record of its own yet. */
static int refuse_waiting_task(const struct command_line *l, const struct slurm_job *job)
{
	cli_error(COMMAND, "job %s is pending and has never run", job->label);
	if (l->op->run != op_able)
		return CLI_FAILED;
	able_answer_waiting(&l->r, job);
	return CLI_OK;
}

/* The id of an array means all its tasks that have records of their own. */
static int run_ref(struct command_line *l, const struct job_ref *ref)
{
	cleanup_free uint32_t *ids = NULL;
	struct err err;
	int n, rc = CLI_OK;

	if (ref->task != IDS_NO_TASK) {
		struct slurm_job job = { 0 };
		uint32_t id;

		if (rpc_job_load_task(ref->id, (uint32_t)ref->task, &job, &err) < 0)
			return fail_ref(&err);
		id = job.id;
		/* for a task without a record of its own Slurm returns the record of the array */
		if (job.pending && job.id == job.array_id && job.restart_count == 0)
			rc = refuse_waiting_task(l, &job);
		else
			rc = run_job(l, id);
		rpc_job_free(&job);
		return rc;
	}
	n = rpc_job_ids(ref->id, &ids, &err);
	if (n < 0)
		return fail_ref(&err);
	if (n > 1)
		l->r.single = false;
	for (int i = 0; i < n; i++)
		rc = worse_status(rc, run_job(l, ids[i]));
	return rc;
}

static int run_all(struct command_line *l)
{
	struct err err;
	struct rpc_settings settings;
	struct conf conf;
	int rc = CLI_OK;

	if (cli_conf(COMMAND, l->conf, &conf) < 0)
		return CLI_FAILED;
	if (getenv("SLURM_CLUSTERS"))
		return cli_usage(COMMAND,
				 "SLURM_CLUSTERS is set, which means -M: unset it to reach jobs of this cluster");
	rpc_init();
	l->r.munge_socket = slurmconf_munge_socket(conf.munge_socket);
	if (rpc_settings(&settings, &err) == 0)
		l->r.slurm_user = settings.slurm_user;
	l->r.single = l->n_refs == 1;
	l->r.able = l->json ? json_array() : NULL;
	for (size_t i = 0; i < l->n_refs; i++)
		rc = worse_status(rc, run_ref(l, &l->refs[i]));
	free(l->r.munge_socket);
	if (l->json)
		able_print_json(&l->r);
	return rc;
}

int checkpoint_cmd(int argc, char **argv)
{
	struct command_line l = { .r = { .wait = true } };
	int c, rc = CLI_OK;

	while (rc == CLI_OK && (c = getopt_long(argc, argv, "QM:u:hadFov", long_options, NULL)) != -1) {
		if (c == 'h')
			return cli_help(COMMAND);
		/* Options of scontrol that have no meaning here are accepted and ignored. */
		if (c > 255 || !strchr("adFov", c))
			rc = read_option(c, &l);
	}
	if (rc == CLI_OK)
		rc = read_operands(argc, argv, &l);
	if (rc == CLI_OK)
		rc = run_all(&l);
	free(l.refs);
	return rc;
}
