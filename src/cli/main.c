/* fsched: the command line of checkpoints. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "base/util.h"

static int version_cmd(int argc, char **argv);
static int help_cmd(int argc, char **argv);

static const struct command commands[] = {
	{ "checkpoint", checkpoint_cmd, "create|vacate|restart|able|error ID[,ID...] [options]",
	  "checkpoint, vacate and restart jobs (also: scontrol checkpoint)",
	  "  create         checkpoint a running job now; it continues to run\n"
	  "  vacate         checkpoint a running job, end it and hold it in the queue\n"
	  "  restart        release a vacated job; it continues from its last epoch\n"
	  "  able           print whether the job can be checkpointed now: Yes, No (the reason is on\n"
	  "                 standard error), or the time at which a running checkpoint began\n"
	  "  error          print the code and the text of the last error\n"
	  "  ID             12, 12_3 (a task of an array), 12_[1-3]; the id of an array means all its tasks\n"
	  "  --epoch N      with restart: continue from epoch N instead of the last one\n"
	  "  --no-wait      with vacate and restart: do not wait for Slurm (exit status 3)\n"
	  "  --timeout S    wait at most S seconds for an answer; the operation continues\n"
	  "  -Q, --quiet    print errors only\n"
	  "  --conf FILE    read this fsched.conf\n"
	  "\nExit status:\n"
	  "  0  done for all jobs\n"
	  "  1  failed for at least one job\n"
	  "  2  wrong usage\n"
	  "  3  nothing failed, but an operation is not finished yet\n" },
	{ "list", list_cmd, "[ID[,ID...]] [--conf FILE]",
	  "list the epochs of jobs; without ID, list all jobs with checkpoints",
	  "  --conf FILE    read this fsched.conf\n" },
	{ "show", show_cmd, "ID [EPOCH] [--conf FILE]", "show the checkpoints of a job, or one epoch, in detail",
	  "  --conf FILE    read this fsched.conf\n" },
	{ "prune", prune_cmd, "ID[,ID...] --keep N | --all [--force] [--dry-run]",
	  "remove epochs of jobs that have ended (root only)",
	  "  --keep N       keep the newest N epochs\n"
	  "  --all          remove all that is kept of the job\n"
	  "  --force        prune also a job that runs or can still be restarted\n"
	  "  --dry-run      print what would be removed and remove nothing\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "export", export_cmd, "ID|DIR EPOCH NEWDIR [--conf FILE]",
	  "write an epoch as a directory of plain criu images (root only)",
	  "  ID|DIR         a job id, or the absolute path of a pod's directory\n"
	  "  NEWDIR         directory to create; `criu restore --images-dir NEWDIR` reads it\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "config", config_cmd, "[--conf FILE]", "print the effective configuration and the origin of each value",
	  "  --conf FILE    read this fsched.conf\n" },
	{ "doctor", doctor_cmd, "[--conf FILE]", "check whether this node has all that checkpoints need",
	  "  --conf FILE    read this fsched.conf\n"
	  "\nSome checks are made for root only. Exit status: 0 if no check failed, else 1.\n" },
	{ "pod", pod_cmd, "run|checkpoint|restore|kill|list ...",
	  "checkpoint and restore a command without Slurm (root only)", NULL },
	{ "version", version_cmd, "", "print the version of fsched", "" },
	{ "help", help_cmd, "[COMMAND]", "list the commands, or print the options of one", "" },
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

void cli_error(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fsched %s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fsched %s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry \"fsched help %s\".\n", command);
	return CLI_USAGE;
}

int cli_bad_option(const char *command)
{
	fprintf(stderr, "Try \"fsched help %s\".\n", command);
	return CLI_USAGE;
}

int cli_help(const char *command)
{
	const struct command *c = find_command(command);

	printf("Usage: fsched %s %s\n%s.\n", c->name, c->args, c->summary);
	if (c->help && *c->help)
		printf("\n%s", c->help);
	return CLI_OK;
}

int cli_number(const char *text, long min, long max, long *out)
{
	char *end;
	long v;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || *end || v < min || v > max)
		return -1;
	*out = v;
	return 0;
}

int cli_conf_option(const char *command, int argc, char **argv, const char **conf)
{
	static const struct option options[] = { { "conf", required_argument, NULL, 'c' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return cli_help(command) + 1;
		if (c != 'c')
			return cli_bad_option(command) + 1;
		*conf = optarg;
	}
	return 0;
}

int cli_conf(const char *command, const char *path, struct conf *c)
{
	struct err err;

	if (conf_load(c, path, &err) == 0) {
		if (!path || *c->path)
			return 0;
		err_set(&err, ENOENT, "%s: no such file", path);
	}
	cli_error(command, "%s", err.text);
	return -1;
}

static int overview(FILE *out)
{
	fputs("Usage: fsched COMMAND ...\nCheckpoint and restore of Slurm's batch jobs.\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].summary);
	fputs("\n\"fsched help COMMAND\" prints the options of a command. The manual page is fsched(1).\n", out);
	return out == stdout ? CLI_OK : CLI_USAGE;
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

	if (argc < 2)
		return overview(stdout);
	c = find_command(argv[1]);
	if (!c)
		return cli_usage("help", "\"%s\" is no command", argv[1]);
	if (c->help)
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

	if (argc < 2)
		return overview(stderr);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return flush_stdout(version_cmd(0, NULL));
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return flush_stdout(overview(stdout));
	c = find_command(argv[1]);
	if (!c) {
		fprintf(stderr, "fsched: \"%s\" is no command\nTry \"fsched help\".\n", argv[1]);
		return CLI_USAGE;
	}
	if (argc > 2 && c->help && strcmp(argv[2], "--help") == 0)
		return flush_stdout(cli_help(c->name));
	/* the program name in messages of getopt */
	snprintf(name, sizeof(name), "fsched %s", c->name);
	argv[1] = name;
	return flush_stdout(c->run(argc - 1, argv + 1));
}
