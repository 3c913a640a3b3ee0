/* `fsched doctor`: checks whether a node has all that checkpoints need. */
#include "cli/doctor/doctor.h"

#include <getopt.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/doctor/doctor_report.h"
#include "base/text.h"

static void report_notice(const char *text, void *arg)
{
	doctor_report(FINDING_WARNING, "fsched.conf", "%s", text);
}

static void check_conf(const struct conf *c)
{
	if (!*c->path)
		doctor_report(FINDING_FAILED, "fsched.conf",
			      "was found nowhere; put it beside slurm.conf, with at least: "
			      "CheckpointType = checkpoint/criu");
	else if (!c->criu_enabled)
		doctor_report(FINDING_FAILED, "fsched.conf",
			      "%s: checkpoints are off; set CheckpointType = checkpoint/criu", c->path);
	else
		doctor_report(FINDING_OK, "fsched.conf", "%s", c->path);
	conf_notices(c, report_notice, NULL);
}

int doctor_cmd(int argc, char **argv)
{
	bool root = geteuid() == 0, json = false;
	const char *path = NULL;
	struct conf conf;
	struct err err;
	int rc = cli_json_option("doctor", argc, argv, &path, &json);

	if (rc)
		return rc - 1;
	if (optind < argc)
		return cli_usage("doctor", "unexpected argument \"%s\"", argv[optind]);
	doctor_report_begin(json);
	if (conf_load(&conf, path, &err) < 0) {
		doctor_report(FINDING_FAILED, "fsched.conf", "%s", err.text);
		conf_defaults(&conf);
	} else if (path && !*conf.path) {
		doctor_report(FINDING_FAILED, "fsched.conf", "%s: no such file", path);
	} else {
		check_conf(&conf);
	}
	doctor_kernel(root);
	doctor_slurm(&conf, root);
	doctor_criu(&conf, root);
	doctor_munge(&conf);
	doctor_clock();
	doctor_store(&conf, root);
	doctor_pod_dir(&conf, root);
	doctor_tmp(&conf, root);
	doctor_network(&conf, root);
	return doctor_summary(root) ? CLI_FAILED : CLI_OK;
}
