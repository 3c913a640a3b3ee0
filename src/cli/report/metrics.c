/* fsched metrics. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/report/metrics_json.h"
#include "cli/report/metrics_text.h"

#define COMMAND      "metrics"
#define METRICS_FILE "fsched.prom"

/* node_exporter reads every file *.prom of the directory; it sees the old file or the whole new one. */
static int metrics_write_file(const struct metrics *m, const char *dir, struct err *err)
{
	cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (fd < 0)
		return err_sys(err, errno, "cannot open directory %s", dir);
	out = open_memstream(&text, &len);
	if (!out)
		return err_sys(err, errno, "cannot make the text");
	metrics_print(m, out);
	if (fclose(out) != 0)
		return err_sys(err, errno, "cannot make the text");
	if (write_file_atomic(fd, METRICS_FILE, 0644, (gid_t)-1, text, len) < 0)
		return err_sys(err, errno, "cannot write %s/" METRICS_FILE, dir);
	return 0;
}

static void metrics_print_json(const struct metrics *m)
{
	cleanup_json json_t *root = metrics_json(m);

	json_out_print(root);
}

static int metrics_run(const struct conf *c, const char *dir, bool json)
{
	struct metrics m;
	struct err err;
	int rc = metrics_collect(c, &m, &err);

	if (rc == 0 && dir)
		rc = metrics_write_file(&m, dir, &err);
	else if (rc == 0 && json)
		metrics_print_json(&m);
	else if (rc == 0)
		metrics_print(&m, stdout);
	if (rc < 0)
		cli_error(COMMAND, "%s", err.text);
	metrics_free(&m);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

int metrics_cmd(int argc, char **argv)
{
	static const struct option options[] = { { "textfile", required_argument, NULL, 't' },
						 { "json", no_argument, NULL, 'j' },
						 { "conf", required_argument, NULL, 'c' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	const char *path = NULL, *dir = NULL;
	struct conf conf;
	bool json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1)
		switch (opt) {
		case 't': dir = optarg; break;
		case 'j': json = true; break;
		case 'c': path = optarg; break;
		case 'h': return cli_help(COMMAND);
		default: return cli_bad_option(COMMAND);
		}
	if (optind < argc)
		return cli_usage(COMMAND, "unexpected argument \"%s\"", argv[optind]);
	if (dir && json)
		return cli_usage(COMMAND, "--textfile and --json cannot be used together");
	return cli_conf(COMMAND, path, &conf) < 0 ? CLI_FAILED : metrics_run(&conf, dir, json);
}
