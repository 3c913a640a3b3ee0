#include "cli/doctor/doctor.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "base/text.h"

static unsigned counts[3];
static char skipped[512];

void doctor_report(enum finding f, const char *what, const char *fmt, ...)
{
	static const char *const words[] = { "ok", "warning", "failed" };
	char text[1024], shown[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	counts[f]++;
	printf("%-8s %s - %s\n", words[f], what, printable(text, shown, sizeof(shown)));
	fflush(stdout);
}

void doctor_needs_root(const char *what)
{
	size_t len = strlen(skipped);

	snprintf(skipped + len, sizeof(skipped) - len, "%s%s", len ? ", " : "", what);
}

static void print_notice(const char *text, void *arg)
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
	conf_notices(c, print_notice, NULL);
}

static void summary(bool root)
{
	printf("%u ok, %u warning%s, %u failed\n", counts[FINDING_OK], counts[FINDING_WARNING],
	       counts[FINDING_WARNING] == 1 ? "" : "s", counts[FINDING_FAILED]);
	if (!root)
		printf("not checked, as it needs root: %s\n", skipped);
}

int doctor_cmd(int argc, char **argv)
{
	bool root = geteuid() == 0;
	const char *path = NULL;
	struct conf conf;
	struct err err;
	int rc = cli_conf_option("doctor", argc, argv, &path);

	if (rc)
		return rc - 1;
	if (optind < argc)
		return cli_usage("doctor", "unexpected argument \"%s\"", argv[optind]);
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
	summary(root);
	return counts[FINDING_FAILED] ? CLI_FAILED : CLI_OK;
}
