#include <getopt.h>
#include <stdio.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/json_out.h"

static void config_notice(const char *text, void *arg)
{
	fprintf(stderr, "fsched config: notice: %s\n", text);
}

static void config_add_key(const char *name, const char *value, unsigned line, const char *idle, void *arg)
{
	json_object_set_new(arg, name,
			    json_pack("{s:o, s:o, s:o}", "value", json_out_text(value), "line", json_out_known(line),
				      "no_effect", json_out_text(idle ? idle : "")));
}

static void config_print_json(const struct conf *c)
{
	json_t *o = json_out_new("config", 1), *keys = json_object();

	conf_each(c, config_add_key, keys);
	json_object_set_new(o, "file", json_out_text(c->path));
	json_object_set_new(o, "keys", keys);
	json_out_print(o);
	json_decref(o);
}

int config_cmd(int argc, char **argv)
{
	bool json = false;
	const char *path = NULL;
	struct conf conf;
	int rc = cli_json_option("config", argc, argv, &path, &json);

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
	if (json)
		config_print_json(&conf);
	else
		conf_print(&conf, stdout);
	conf_notices(&conf, config_notice, NULL);
	return CLI_OK;
}
