#include "cli/pod/pod_cmd.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/libexec.h"
#include "base/interval.h"
#include "base/util.h"

static const char help[] =
	"Usage: fsched pod run --dir DIR [--user NAME] [--interval TIME] [--] COMMAND [ARGUMENT]...\n"
	"       fsched pod checkpoint [--kill] DIR\n"
	"       fsched pod restore [--epoch N] [--interval TIME] DIR\n"
	"       fsched pod kill DIR\n"
	"       fsched pod list DIR\n"
	"\n"
	"Checkpoint and restore a command on this machine, without Slurm. For root only.\n"
	"\n"
	"run         run COMMAND in a pod, in the foreground; keep its epochs in DIR\n"
	"checkpoint  checkpoint the command that runs in the pod of DIR; it continues to run\n"
	"restore     continue the command from an epoch, in the foreground\n"
	"kill        kill all processes of the pod\n"
	"list        print the state of the pod and the epochs in DIR\n"
	"\n"
	"  --dir DIR        the directory of the pod; it is created if it does not exist\n"
	"  --user NAME      run COMMAND as this user (default: root)\n"
	"  --interval TIME  make a checkpoint after each TIME, e.g. 30:00 (minutes:seconds)\n"
	"  --kill           kill the pod when the checkpoint is complete\n"
	"  --epoch N        the epoch to restore (default: the newest)\n"
	"  --conf FILE      read this fsched.conf (default: as described in fsched.conf(5))\n"
	"  --libexec DIR    the directory of fsched's programs (default: those installed with this fsched)\n"
	"\n"
	"Standard output and error should be files: a terminal or a pipe cannot be checkpointed. run and restore\n"
	"forward the signals HUP, INT, QUIT, TERM, USR1 and USR2 to the command. They exit with the exit status of\n"
	"the command (128+N if signal N killed it), or with\n"
	"  75   the command was checkpointed and stopped by checkpoint --kill\n"
	"  125  fsched failed\n"
	"  126  COMMAND cannot be run\n"
	"  127  there is no such COMMAND\n"
	"  137  the pod was killed\n";

enum { OPT_DIR = 256, OPT_USER, OPT_INTERVAL, OPT_KILL, OPT_EPOCH, OPT_CONF, OPT_LIBEXEC };

static const struct option all_options[] = {
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "user", required_argument, NULL, OPT_USER },
	{ "interval", required_argument, NULL, OPT_INTERVAL },
	{ "kill", no_argument, NULL, OPT_KILL },
	{ "epoch", required_argument, NULL, OPT_EPOCH },
	{ "conf", required_argument, NULL, OPT_CONF },
	{ "libexec", required_argument, NULL, OPT_LIBEXEC },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const struct operation {
	const char *name;
	const char *label; /* in messages */
	int (*run)(const struct pod_opts *o);
	const char *allowed; /* allowed options besides conf, libexec and help, each between blanks */
} operations[] = {
	{ "run", "pod run", NULL, " dir user interval " },
	{ "checkpoint", "pod checkpoint", pod_cmd_checkpoint, " kill " },
	{ "restore", "pod restore", pod_cmd_restore, " epoch interval " },
	{ "kill", "pod kill", pod_cmd_kill, " " },
	{ "list", "pod list", pod_cmd_list, " " },
};

static bool is_allowed(const struct operation *op, const char *name)
{
	char padded[32];

	if (!strcmp(name, "conf") || !strcmp(name, "libexec"))
		return true;
	snprintf(padded, sizeof(padded), " %s ", name);
	return strstr(op->allowed, padded);
}

/* Returns CLI_OK or the exit status. */
static int pod_set_option(const struct operation *op, struct pod_opts *o, int option, const char *value)
{
	struct err err;
	long n;

	switch (option) {
	case OPT_DIR: o->dir = value; return CLI_OK;
	case OPT_USER: o->user = value; return CLI_OK;
	case OPT_INTERVAL:
		return interval_parse(value, &o->interval, &err) ? cli_usage(op->label, "--interval: %s", err.text)
								 : CLI_OK;
	case OPT_KILL: o->kill = true; return CLI_OK;
	case OPT_EPOCH:
		if (cli_number(value, 1, 999999, &n))
			return cli_usage(op->label, "--epoch: \"%s\" is not the number of an epoch", value);
		o->epoch = (unsigned)n;
		return CLI_OK;
	case OPT_CONF: o->config = value; return CLI_OK;
	case OPT_LIBEXEC:
		if (value[0] != '/')
			return cli_usage(op->label, "--libexec: \"%s\" is not an absolute path", value);
		o->libexec = value;
		return CLI_OK;
	default: return CLI_USAGE;
	}
}

static const struct operation *pod_find_operation(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		if (!strcmp(operations[i].name, name))
			return &operations[i];
	return NULL;
}

/* Makes a path absolute, as store and worker need it. The caller frees. */
static char *absolute(const char *path)
{
	char cwd[PATH_MAX];

	return path[0] == '/' || !getcwd(cwd, sizeof(cwd)) ? xstrdup(path) : xasprintf("%s/%s", cwd, path);
}

static int pod_start_operation(const struct operation *op, struct pod_opts *o, char **argv)
{
	cleanup_free char *dir = absolute(o->dir);
	cleanup_free char *config = o->config ? absolute(o->config) : NULL;

	o->dir = dir;
	o->config = config;
	if (geteuid() != 0) {
		cli_error(op->label, "only root can make namespaces and run criu for other users: try it with sudo");
		return CLI_FAILED;
	}
	if (cli_conf(op->label, o->config, &o->conf))
		return op->run ? CLI_FAILED : POD_EXIT_FAILED;
	return op->run ? op->run(o) : pod_cmd_run(o, argv);
}

int pod_cmd(int argc, char **argv)
{
	const struct operation *op = argc > 1 ? pod_find_operation(argv[1]) : NULL;
	struct pod_opts o = { .libexec = libexec_dir() };
	int option, which, rc;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))) {
		fputs(help, stdout);
		return CLI_OK;
	}
	if (!op)
		return cli_usage("pod", "%s%s: the operations are run, checkpoint, restore, kill and list",
				 argc > 1 ? "unknown operation " : "operation missing", argc > 1 ? argv[1] : "");
	argc--;
	argv++;
	optind = 0; /* main() has parsed before */
	/* run: "+" stops at COMMAND, whose options are not ours. */
	while ((option = getopt_long(argc, argv, op->run ? "h" : "+h", all_options, &which)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return CLI_OK;
		}
		if (option == '?')
			return CLI_USAGE;
		if (!is_allowed(op, all_options[which].name))
			return cli_usage(op->label, "--%s is no option of this operation", all_options[which].name);
		rc = pod_set_option(op, &o, option, optarg);
		if (rc)
			return rc;
	}
	argc -= optind;
	argv += optind;
	if (op->run) {
		if (argc != 1)
			return cli_usage(op->label, "one directory is expected, %d are given", argc);
		o.dir = argv[0];
	} else if (!o.dir || argc < 1) {
		return cli_usage(op->label, "%s", o.dir ? "the command is missing" : "--dir DIR is missing");
	}
	return pod_start_operation(op, &o, argv);
}
