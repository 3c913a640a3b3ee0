#include <getopt.h>
#include <stdio.h>

#include "cli/cli.h"

static void config_notice(const char *text, void *arg)
{
	fprintf(stderr, "fsched config: notice: %s\n", text);
}

int config_cmd(int argc, char **argv)
{
	const char *path = NULL;
	struct conf conf;
	int rc = cli_conf_option("config", argc, argv, &path);

	if (rc)
		return rc - 1;
	if (optind < argc)
		return cli_usage("config", "unexpected argument \"%s\"", argv[optind]);
	if (cli_conf("config", path, &conf) < 0)
		return CLI_FAILED;
	if (!*conf.path)
		config_notice(
			"no fsched.conf was found (fsched.conf(5) says where it is looked for); these are the defaults",
			NULL);
	conf_print(&conf, stdout);
	conf_notices(&conf, config_notice, NULL);
	return CLI_OK;
}
