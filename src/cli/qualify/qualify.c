/* fsched qualify: runs a script undisturbed and with vacates and failures, and says whether the results are the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dir_tree.h"
#include "base/io.h"
#include "base/slurmconf.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/json_out.h"
#include "cli/qualify/job.h"
#include "cli/qualify/judge.h"
#include "cli/qualify/options.h"
#include "cli/qualify/output.h"
#include "cli/qualify/run.h"
#include "cli/report/html.h"

#define COMMAND        "qualify"
#define SCRIPT_MOST    (4u << 20) /* Slurm's own limit, max_script_size */
#define REQUEST_MORE_S 120        /* beyond CheckpointTimeout, for queues and hooks */

/* ---- before the first run ---- */

static int qualify_read_script(const char *path, char **text, size_t *len, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read_all(fd, SCRIPT_MOST, text);

	if (n < 0)
		return err_sys(err, errno, "cannot read the script %s", path);
	if (n < 3 || strncmp(*text, "#!", 2) != 0)
		return err_set(err, ENOEXEC, "%s is no script: its first line does not begin with #!", path);
	*len = (size_t)n;
	return 0;
}

/* In PATH, or where it was said. */
static bool qualify_is_program(const char *name)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/'))
		return access(name, X_OK) == 0;
	for (const char *dir = path ? path : "/usr/bin:/bin", *end;; dir = end + 1) {
		cleanup_free char *full = NULL;

		end = strchrnul(dir, ':');
		full = xasprintf("%.*s/%s", end == dir ? 1 : (int)(end - dir), end == dir ? "." : dir, name);
		if (access(full, X_OK) == 0)
			return true;
		if (!*end)
			return false;
	}
}

static int qualify_check(const struct qualify_options *o, const char *text, bool *script_asks, struct err *err)
{
	if (qualify_job_check_words(o->sbatch, o->n_sbatch, script_asks, err) < 0 ||
	    qualify_job_check_script(text, script_asks, err) < 0)
		return -1;
	if (getenv("SLURM_CLUSTERS") || getenv("SBATCH_CLUSTERS"))
		return err_set(err, EINVAL,
			       "SLURM_CLUSTERS or SBATCH_CLUSTERS is set: fsched can only reach jobs of its own cluster");
	if (getenv("SBATCH_WAIT") || getenv("SBATCH_ARRAY_INX"))
		return err_set(err, EINVAL, "SBATCH_WAIT or SBATCH_ARRAY_INX is set: unset it");
	if (o->command && !qualify_is_program(o->command))
		return err_set(err, ENOENT,
			       "--compare-command: there is no program \"%s\"; it is called with the directories of two runs, and "
			       "without a shell",
			       o->command);
	return 0;
}

static void qualify_describe(struct qualify_result *r, const struct qualify_options *o, const struct conf *c)
{
	const struct passwd *pw = getpwuid(geteuid());
	const char *slash = strrchr(o->script, '/');

	r->o = o;
	r->began = time(NULL);
	r->max_epochs = c->max_epochs;
	printable(slash ? slash + 1 : o->script, r->script, sizeof(r->script));
	if (pw)
		printable(pw->pw_name, r->user, sizeof(r->user));
	else
		snprintf(r->user, sizeof(r->user), "%u", (unsigned)geteuid());
	if (gethostname(r->host, sizeof(r->host) - 1))
		snprintf(r->host, sizeof(r->host), "?");
}

/* ---- after the last ---- */

/* What a qualified script has left tells nothing; everything else is needed to look for the reason. */
static void qualify_clean(struct session *s)
{
	const bool good = s->r->verdict == QUALIFY_QUALIFIED && !s->o->keep && !s->o->directory;

	if (s->dirfd >= 0)
		close(s->dirfd);
	s->dirfd = -1;
	if (s->dir && good && remove_tree_at(AT_FDCWD, s->dir) == 0)
		*s->r->directory = '\0';
}

static int qualify_write_page(const struct qualify_result *r, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return err_sys(err, errno, "cannot make the page");
	output_page(out, r);
	if (fclose(out) != 0)
		return err_sys(err, errno, "cannot make the page");
	return html_write_file(r->o->html, text, len, err);
}

static int qualify_print(const struct qualify_result *r)
{
	struct err err;

	if (r->o->json) {
		json_t *o = output_json(r);

		json_out_print(o);
		json_decref(o);
	} else {
		output_text(stdout, r);
	}
	if (r->o->html && qualify_write_page(r, &err) < 0) {
		cli_error(COMMAND, "%s", err.text);
		return CLI_FAILED;
	}
	return r->verdict == QUALIFY_QUALIFIED ? CLI_OK : CLI_FAILED;
}

static int qualify_run(struct session *s, const char *text, size_t len)
{
	struct err err;
	int rc;

	s->began = now_us();
	s->until = s->o->limit ? s->began + s->o->limit * 1000000 : INT64_MAX;
	s->random.state = s->o->seed;
	s->dirfd = -1;
	progress_start(&s->progress, COMMAND, s->o->quiet);
	session_catch_signals();
	if (run_prepare(s, text, len, &err) < 0) {
		progress_end(&s->progress);
		cli_error(COMMAND, "%s", err.text);
		/* nothing has run, so nothing is worth keeping */
		if (s->dir)
			remove_tree_at(AT_FDCWD, s->dir);
		return CLI_FAILED;
	}
	session_say(s, "%s, %u cycle%s, seed %llu, in %s", s->r->script, s->o->cycles, s->o->cycles == 1 ? "" : "s",
		    (unsigned long long)s->o->seed, s->dir);
	run_all(s);
	progress_end(&s->progress);
	if (session_stops(s))
		snprintf(s->r->why, sizeof(s->r->why), "%s", session_stop_reason(s));
	s->r->ended = time(NULL);
	judge(s->r);
	qualify_clean(s);
	rc = qualify_print(s->r);
	session_die_by_signal();
	return rc;
}

static int qualify_with(struct qualify_options *o, const struct conf *conf)
{
	cleanup_free struct qualify_result *r = xcalloc(1, sizeof(*r));
	cleanup_free char *text = NULL;
	struct session s = { .o = o, .conf = conf, .r = r, .dirfd = -1 };
	struct err err;
	size_t len = 0;
	int rc;

	if (qualify_read_script(o->script, &text, &len, &err) < 0 || qualify_check(o, text, &r->script_asks, &err) < 0)
		return cli_usage(COMMAND, "%s", err.text);
	if (!slurmconf_path()) {
		cli_error(COMMAND, "no slurm.conf was found");
		return CLI_FAILED;
	}
	rpc_init();
	if (!o->request_wait)
		o->request_wait = conf_checkpoint_seconds(conf) + REQUEST_MORE_S;
	qualify_describe(r, o, conf);
	rc = qualify_run(&s, text, len);
	if (s.dirfd >= 0)
		close(s.dirfd);
	free(s.dir);
	free(s.script);
	qualify_free(r);
	return rc;
}

int qualify_cmd(int argc, char **argv)
{
	cleanup_free struct conf *conf = xcalloc(1, sizeof(*conf));
	struct qualify_options o;
	int rc = options_read(argc, argv, &o);

	if (rc)
		rc = rc - 1;
	else if (cli_conf(COMMAND, o.conf, conf) < 0)
		rc = CLI_FAILED;
	else
		rc = qualify_with(&o, conf);
	options_free(&o);
	return rc;
}
