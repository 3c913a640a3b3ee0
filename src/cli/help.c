/* The usage texts of all commands: what `fsched help` and --help print. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "base/util.h"

struct help_text {
	const char *name;
	const char *args;    /* arguments in the synopsis, after the name */
	const char *summary; /* its line in `fsched help` */
	const char *options; /* one per line; NULL: the command prints --help itself */
};

static const struct help_text texts[] = {
	{ "checkpoint", "create|vacate|restart|able|error ID[,ID...] [options]",
	  "checkpoint, vacate and restart jobs (also: scontrol checkpoint)",
	  "  create         checkpoint a running job now; it continues to run\n"
	  "  vacate         checkpoint a running job, end it and hold it in the queue\n"
	  "  restart        release a vacated job; it continues from its last epoch\n"
	  "  able           print whether the job can be checkpointed now: Yes, No (the reason is on\n"
	  "                 standard error), or the time at which a running checkpoint began\n"
	  "  error          print the code and the text of the last error\n"
	  "  ID             12, 12_3 (a task of an array), 12_[1-3]; the id of an array means all its tasks\n"
	  "  --epoch N      with restart: continue from epoch N instead of the last one\n"
	  "  --json         with able: print one object (docs/json.md)\n"
	  "  --no-wait      with vacate and restart: do not wait for Slurm (exit status 3)\n"
	  "  --timeout S    wait at most S seconds for an answer; the operation continues\n"
	  "  -Q, --quiet    print errors only\n"
	  "  --conf FILE    read this fsched.conf\n"
	  "\nExit status:\n"
	  "  0  done for all jobs\n"
	  "  1  failed for at least one job\n"
	  "  2  wrong usage\n"
	  "  3  nothing failed, but an operation is not finished yet\n" },
	{ "list", "[ID[,ID...]|--all] [--json] [--conf FILE]",
	  "list the epochs of jobs; without ID, what is kept of which jobs, your own or, as root, everybody's",
	  "  --all          also directories that belong to no job any more, the largest of ended jobs first\n"
	  "                 (root only)\n"
	  "  --json         print one object\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "show", "ID [EPOCH] [--json] [--conf FILE]", "show the checkpoints of a job, or one epoch, in detail",
	  "  --json         print one object\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "advise", "ID [--json] [--conf FILE]", "explain how often checkpoints of a job pay",
	  "  --json         print one object\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "prune", "ID[,ID...]|--ended --keep N | --all [--force] [--dry-run] [--yes]",
	  "remove epochs of jobs that have ended; their owner can ask for it by --all",
	  "  --keep N       keep the newest N epochs\n"
	  "  --all          remove all that is kept of the job\n"
	  "  --force        prune also a job that runs or can still be restarted\n"
	  "  --dry-run      print what would be removed and remove nothing\n"
	  "  --ended        instead of ids: all jobs that have ended; only printed without --yes\n"
	  "  --user NAME    of these those of this user\n"
	  "  --days N       of these those that ended at least N days ago\n"
	  "  --expired      the same, N = CheckpointKeepDays\n"
	  "  --requested    of these those whose owner has asked for it; with --days or --expired these too\n"
	  "  --size BYTES   of these those whose epochs have at least this size (500M, 10G)\n"
	  "  --yes          with --ended: remove it\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "export", "ID|DIR EPOCH NEWDIR [--conf FILE]", "write an epoch as a directory of plain criu images (root only)",
	  "  ID|DIR         a job id, or the absolute path of a pod's directory\n"
	  "  NEWDIR         directory to create; `criu restore --images-dir NEWDIR` reads it\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "verify", "ID|DIR[:EPOCH] [--restore [--run SECONDS]] [--json]",
	  "read epochs back, or restore one on trial (root only)",
	  "  ID|DIR         a job id, or the absolute path of a pod's directory\n"
	  "  EPOCH          only this one\n"
	  "  --restore      restore EPOCH, or the newest, apart from the node, and throw it all away\n"
	  "  --run SECONDS  let the restored job run for so long before that\n"
	  "  --json         print a list of objects\n"
	  "  --conf FILE    read this fsched.conf\n"
	  "\nWithout --restore every byte is compared with its digest. Exit status: 0 if all epochs are\n"
	  "intact, or the epoch was restored, else 1.\n" },
	{ "config", "[--json] [--conf FILE]", "print the effective configuration and the origin of each value",
	  "  --json         print one object\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "doctor", "[--json] [--conf FILE]", "check whether this node has all that checkpoints need",
	  "  --json         print one object\n"
	  "  --conf FILE    read this fsched.conf\n"
	  "\nSome checks are made for root only. Exit status: 0 if no check failed, else 1.\n" },
	{ "metrics", "[--json | --textfile DIR] [--conf FILE]",
	  "print numbers of all checkpoints and restores for Prometheus",
	  "  --json         print one object\n"
	  "  --textfile DIR write them to DIR/fsched.prom, atomically, for node_exporter\n"
	  "  --conf FILE    read this fsched.conf\n"
	  "\nRoot gets the numbers of all jobs, others those of their own.\n" },
	{ "report", "[ID[,ID...]] [--since TIME] [--user NAME] -o FILE",
	  "write a page about checkpoints, restores and storage",
	  "  ID             these jobs; without, all jobs of the caller, to root of everybody\n"
	  "  -o, --output FILE\n"
	  "                 the HTML page, one file that needs no network; - is standard output\n"
	  "  -S, --since TIME\n"
	  "                 only jobs with an event since then: 2026-11-30, 2026-11-30T18:00, today, now-7days\n"
	  "  -u, --user NAME\n"
	  "                 only jobs of this user\n"
	  "  --conf FILE    read this fsched.conf\n" },
	{ "qualify", "[options] SCRIPT [OPTION OF SBATCH...] [-- ARGUMENT...]",
	  "run a script undisturbed, with vacates and with failures, and compare the results",
	  "  SCRIPT         the batch script; behind it options of sbatch, and behind -- arguments of the script\n"
	  "  -n, --cycles N cycles of vacate and restart in one run, of failure and restart in another (3)\n"
	  "  --events LIST  vacate,fail (both, the default) or one of them\n"
	  "  --fail HOW     what a failure is: kill (default): SIGKILL for all processes of the job and of fsched,\n"
	  "                 then requeuehold and restart; requeue: scontrol requeue; node: its node is set DOWN,\n"
	  "                 for root, and only if no other job is on it\n"
	  "  --seed N       of the random moments; a run prints its seed\n"
	  "  --same-node    do not try restarts on another node\n"
	  "  --compare FILE compare this file or directory, relative to the working directory, and the output (may\n"
	  "                 be repeated); without, everything in the working directory\n"
	  "  --ignore PATTERN\n"
	  "                 leave files out of the comparison (may be repeated); also stdout, stderr\n"
	  "  --compare-command CMD\n"
	  "                 call CMD DIR DIR to compare two runs: exit status 0 if they are the same\n"
	  "  --copy DIR     what each run begins with (the current directory); --no-copy: nothing\n"
	  "  --copy-limit SIZE\n"
	  "                 the most to copy for each run (1G)\n"
	  "  --directory DIR\n"
	  "                 make the runs in this new directory, and keep it\n"
	  "  --keep         keep the runs and their epochs although the script is qualified\n"
	  "  --queue-wait TIME, --run-wait TIME, --request-wait TIME, --limit TIME\n"
	  "                 bounds: for the start of a job (1:00:00), for its run (1-0), for one checkpoint\n"
	  "                 (CheckpointTimeout and 2:00), for everything (none)\n"
	  "  --json         print one object\n"
	  "  --html FILE    write a page, too\n"
	  "  -Q, --quiet    print the verdict only\n"
	  "  --conf FILE    read this fsched.conf\n"
	  "\nExit status: 0 if the script is qualified, 1 if not, 2 for wrong usage.\n" },
	{ "pod", "run|checkpoint|restore|kill|list ...", "checkpoint and restore a command without Slurm (root only)",
	  NULL },
	{ "version", "", "print the version of fsched", "" },
	{ "help", "[COMMAND]", "list the commands, or print the options of one", "" },
};

static const struct help_text *find_text(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strcmp(texts[i].name, name) == 0)
			return &texts[i];
	return NULL;
}

bool cli_has_help(const char *command)
{
	const struct help_text *h = find_text(command);

	return h && h->options;
}

int cli_help(const char *command)
{
	const struct help_text *h = find_text(command);

	printf("Usage: fsched %s %s\n%c%s.\n", h->name, h->args, toupper((unsigned char)*h->summary), h->summary + 1);
	if (h->options && *h->options)
		printf("\n%s", h->options);
	return CLI_OK;
}

void cli_overview(FILE *out)
{
	fputs("Usage: fsched COMMAND ...\nCheckpoint and restore batch jobs of Slurm.\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		fprintf(out, "  %-11s %s\n", texts[i].name, texts[i].summary);
	fputs("\n\"fsched help COMMAND\" prints the options of a command. The manual page is fsched(1).\n", out);
}
