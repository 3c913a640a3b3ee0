/* fsched: finds the command and runs it. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "base/util.h"

static int version_cmd(int argc, char **argv);
static int help_cmd(int argc, char **argv);

/* clang-format off */
static const struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the name of the command */
} commands[] = {
	{ "checkpoint", checkpoint_cmd },
	{ "list",       list_cmd },
	{ "show",       show_cmd },
	{ "advise",     advise_cmd },
	{ "prune",      prune_cmd },
	{ "export",     export_cmd },
	{ "verify",     verify_cmd },
	{ "config",     config_cmd },
	{ "doctor",     doctor_cmd },
	{ "metrics",    metrics_cmd },
	{ "report",     report_cmd },
	{ "qualify",    qualify_cmd },
	{ "pod",        pod_cmd },
	{ "version",    version_cmd },
	{ "help",       help_cmd },
};
/* clang-format on */

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int version_cmd(int argc, char **argv)
{
	puts("fsched " FSCHED_VERSION);
	return CLI_OK;
}

static int help_cmd(int argc, char **argv)
{
	const struct command *c;
	char *help_argv[] = { NULL, (char *)(uintptr_t) "--help", NULL };

	if (argc < 2) {
		cli_overview(stdout);
		return CLI_OK;
	}
	c = find_command(argv[1]);
	if (!c)
		return cli_usage("help", "\"%s\" is no command", argv[1]);
	if (cli_has_help(c->name))
		return cli_help(c->name);
	help_argv[0] = argv[1];
	return c->run(2, help_argv);
}

/* Flushes standard output. Output that cannot be written, for example to a full disk, is a failure. */
static int flush_stdout(int rc)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return rc;
	fprintf(stderr, "fsched: cannot write to standard output: %s\n", strerror(errno));
	return rc == CLI_OK ? CLI_FAILED : rc;
}

int main(int argc, char **argv)
{
	static char name[40];
	const struct command *c;

	if (argc < 2) {
		cli_overview(stderr);
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return flush_stdout(version_cmd(0, NULL));
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return flush_stdout(help_cmd(0, NULL));
	c = find_command(argv[1]);
	if (!c) {
		fprintf(stderr, "fsched: \"%s\" is no command\nTry \"fsched help\".\n", argv[1]);
		return CLI_USAGE;
	}
	if (argc > 2 && cli_has_help(c->name) && strcmp(argv[2], "--help") == 0)
		return flush_stdout(cli_help(c->name));
	/* the program name in messages of getopt */
	snprintf(name, sizeof(name), "fsched %s", c->name);
	argv[1] = name;
	return flush_stdout(c->run(argc - 1, argv + 1));
}
