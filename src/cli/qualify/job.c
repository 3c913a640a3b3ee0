#include "cli/qualify/job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/user/job_view.h"

#define JOB_POLL_MIN_US INT64_C(200000)
#define JOB_POLL_MAX_US INT64_C(2000000)
#define JOB_CANCEL_S    60

/* ---- options that cannot be ---- */

static const struct job_option {
	const char *name; /* "--long" or "-s" */
	bool valued;
	const char *why; /* NULL: it can be */
} job_options[] = {
	{ "--array", true, "each task of an array is a job of its own: give a script that runs one task" },
	{ "-a", true, "each task of an array is a job of its own: give a script that runs one task" },
	{ "--clusters", true, "fsched can only reach jobs of its own cluster" },
	{ "--cluster", true, "fsched can only reach jobs of its own cluster" },
	{ "-M", true, "fsched can only reach jobs of its own cluster" },
	{ "--wrap", true, "put the command into a script" },
	{ "--uid", true, "jobs are made as the user who runs this" },
	{ "--wait", false, "this waits for its jobs itself" },
	{ "-W", false, "this waits for its jobs itself" },
	{ "--hold", false, "a held job does not start" },
	{ "-H", false, "a held job does not start" },
	{ "--test-only", false, "jobs have to run" },
	{ "--help", false, "no job would be submitted" },
	{ "--version", false, "no job would be submitted" },
	/* options without a value, behind which a word is an argument of the script */
	{ "--contiguous", false, NULL },
	{ "--exclusive", false, NULL },
	{ "--ignore-pbs", false, NULL },
	{ "--no-requeue", false, NULL },
	{ "--overcommit", false, NULL },
	{ "-O", false, NULL },
	{ "--oversubscribe", false, NULL },
	{ "-s", false, NULL },
	{ "--parsable", false, NULL },
	{ "--quiet", false, NULL },
	{ "-Q", false, NULL },
	{ "--reboot", false, NULL },
	{ "--requeue", false, NULL },
	{ "--spread-job", false, NULL },
	{ "--use-min-nodes", false, NULL },
	{ "--verbose", false, NULL },
	{ "-v", false, NULL },
};

static const struct job_option *job_find_option(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(job_options); i++) {
		const struct job_option *o = &job_options[i];
		const size_t n = strlen(o->name);

		if (strcmp(word, o->name) == 0 ||
		    (strncmp(word, o->name, n) == 0 && (word[n] == '=' || (o->valued && n == 2))))
			return o;
	}
	return NULL;
}

static int job_check_word(const char *word, const char *where, bool *checkpoint, struct err *err)
{
	const struct job_option *o = job_find_option(word);
	char shown[80];

	*checkpoint |= strncmp(word, "--checkpoint", 12) == 0;
	if (o && o->why)
		return err_set(err, EINVAL, "%s%s: %s", where, printable(word, shown, sizeof(shown)), o->why);
	return 0;
}

/* A word that is no option can only be the value of the option before it. sbatch would take another for the script. */
static bool job_is_value(const char *word, const char *before)
{
	const struct job_option *o = before ? job_find_option(before) : NULL;

	return before && *before == '-' && !strchr(before, '=') && (!o || o->valued) && *word != '\0';
}

int qualify_job_check_words(char *const *words, size_t n, bool *checkpoint, struct err *err)
{
	char shown[80];

	for (size_t i = 0; i < n; i++) {
		if (*words[i] != '-' && !job_is_value(words[i], i ? words[i - 1] : NULL))
			return err_set(err, EINVAL,
				       "\"%s\" is no option of sbatch; arguments of the script follow behind --",
				       printable(words[i], shown, sizeof(shown)));
		if (job_check_word(words[i], "", checkpoint, err) < 0)
			return -1;
	}
	return 0;
}

int qualify_job_check_script(const char *text, bool *checkpoint, struct err *err)
{
	cleanup_free char *copy = xstrdup(text);
	char *rest = copy, *line, *word;
	int rc = 0;

	while (rc == 0 && (line = strsep(&rest, "\n"))) {
		if (strncmp(line, "#SBATCH", 7) != 0)
			continue;
		line += 7;
		while (rc == 0 && (word = strsep(&line, " \t\r")))
			rc = *word == '#' ? 1 : job_check_word(word, "the script's line #SBATCH ", checkpoint, err);
		rc = rc > 0 ? 0 : rc;
	}
	return rc;
}

/* ---- submission ---- */

struct job_words {
	char **v; /* the array and the words are owned */
	size_t n, room;
};

static void job_add_word(struct job_words *w, char *word)
{
	array_reserve(w->v, w->n, w->room);
	w->v[w->n++] = word;
}

/* The last of equal options holds for sbatch: ours are behind the user's. */
static void job_make_words(const struct session *s, const char *dir, bool pod, struct job_words *w)
{
	const struct qualify_options *o = s->o;

	job_add_word(w, xstrdup("sbatch"));
	for (size_t i = 0; i < o->n_sbatch; i++)
		job_add_word(w, xstrdup(o->sbatch[i]));
	job_add_word(w, xstrdup("--parsable"));
	job_add_word(w, xasprintf("--chdir=%s/work", dir));
	job_add_word(w, xasprintf("--output=%s/stdout", dir));
	job_add_word(w, xasprintf("--error=%s/stderr", dir));
	if (pod)
		job_add_word(w, xstrdup("--checkpoint=UNLIMITED"));
	job_add_word(w, xstrdup(s->script));
	for (size_t i = 0; i < o->n_args; i++)
		job_add_word(w, xstrdup(o->args[i]));
	array_reserve(w->v, w->n, w->room);
	w->v[w->n] = NULL;
}

static void job_free_words(struct job_words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->v[i]);
	free(w->v);
}

/* The answer of sbatch --parsable: "12", or "12;cluster". */
static int job_read_id(const struct command_result *r, uint32_t *id, struct err *err)
{
	unsigned long n;
	char said[400], *end;

	if (r->status != 0)
		return err_set(err, 0, "the job was not submitted: %s%s",
			       command_said(r, "sbatch: error: ", said, sizeof(said)),
			       r->late ? "; if it was submitted all the same: squeue --me" : "");
	n = strtoul(r->out, &end, 10);
	if (end == r->out || n == 0 || n > UINT32_MAX)
		return err_set(err, 0, "sbatch printed no job id but: %s", printable(r->out, said, sizeof(said)));
	if (*end == ';')
		return err_set(err, 0,
			       "job %lu was submitted to another cluster (%s), where fsched cannot reach it: cancel it",
			       n, printable(end + 1, said, sizeof(said)));
	*id = (uint32_t)n;
	return 0;
}

/* Against an option of sbatch that this does not know: the job must be what was meant. */
static int job_check_submitted(const struct qualify_job *j, const char *dir, struct err *err)
{
	cleanup_free char *work = xasprintf("%s/work", dir);

	if (j->slurm.uid != geteuid() || strcmp(j->slurm.work_dir, work) != 0)
		return err_set(err, 0,
			       "job %u does not run in %s: is there an argument of the script among the options of sbatch? "
			       "Arguments follow behind --",
			       j->id, work);
	if (j->slurm.array_id || j->slurm.het_id || !j->slurm.batch)
		return err_set(err, 0, "job %u is no plain batch job", j->id);
	return 0;
}

int qualify_job_submit(struct session *s, const char *dir, bool pod, struct qualify_job *j, struct err *err)
{
	struct job_words words = { 0 };
	struct command_result r;
	const int64_t until = now_us() + SESSION_SHORT_S * INT64_C(1000000);
	int rc;

	memset(j, 0, sizeof(*j));
	job_make_words(s, dir, pod, &words);
	rc = session_run_whole(words.v, &r, err);
	if (rc == 0)
		rc = job_read_id(&r, &j->id, err);
	command_free(&r);
	job_free_words(&words);
	if (rc < 0)
		return -1;
	s->job = j->id;
	while ((rc = qualify_job_look(j, err)) < 0 && now_us() < until && session_pause(s, JOB_POLL_MIN_US))
		;
	if (rc == 0)
		rc = job_check_submitted(j, dir, err);
	if (rc == 0) {
		j->exc_nodes = xstrdup(j->slurm.exc_nodes);
		j->req_nodes = xstrdup(j->slurm.req_nodes);
	} else {
		qualify_job_cancel(s);
	}
	return rc;
}

void qualify_job_free(struct qualify_job *j)
{
	rpc_job_free(&j->slurm);
	free(j->exc_nodes);
	free(j->req_nodes);
	free(j->stale);
	memset(j, 0, sizeof(*j));
}

/* ---- looking ---- */

int qualify_job_look(struct qualify_job *j, struct err *err)
{
	struct slurm_job job = { 0 };
	struct err why;

	if (rpc_job_load(j->id, &job, &why) < 0)
		return err_set(err, why.num == VIEW_UNKNOWN_JOB ? ESRCH : EIO, "%s", why.text);
	rpc_job_free(&j->slurm);
	j->slurm = job;
	memset(&j->entry, 0, sizeof(j->entry));
	j->enabled = status_parse(job.admin_comment, &j->entry, NULL) == 0;
	return 0;
}

bool qualify_job_over(const struct qualify_job *j)
{
	return j->slurm.finished && !j->slurm.completing;
}

bool qualify_job_runs(const struct qualify_job *j)
{
	return j->slurm.running && (!j->enabled || (j->entry.state == STATUS_RUNNING && *j->entry.agent));
}

bool qualify_job_held(const struct qualify_job *j)
{
	return j->slurm.pending && j->slurm.held && !j->slurm.completing;
}

static void job_show(struct session *s, const struct qualify_job *j, const char *doing)
{
	const struct slurm_job *job = &j->slurm;

	if (job->pending && *job->reason)
		session_doing(s, "job %u: %s (waits: %.60s)", j->id, doing, job->reason);
	else
		session_doing(s, "job %u: %s", j->id, doing);
}

/* Between two looks, longer from time to time. */
static int64_t job_poll(int64_t waited)
{
	const int64_t us = waited / 20;

	return us < JOB_POLL_MIN_US ? JOB_POLL_MIN_US : us > JOB_POLL_MAX_US ? JOB_POLL_MAX_US : us;
}

enum qualify_wait qualify_job_wait(struct session *s, struct qualify_job *j, bool (*ready)(const struct qualify_job *j),
				   const char *doing, int64_t until, struct err *err)
{
	const int64_t began = now_us();

	for (;;) {
		const int rc = qualify_job_look(j, err);
		int64_t left;

		if (rc < 0 && err->num == ESRCH)
			return QUALIFY_LOST;
		if (rc == 0 && (qualify_job_over(j) || (ready && ready(j))))
			return QUALIFY_READY;
		left = until - now_us();
		if (left <= 0)
			return QUALIFY_LATE;
		job_show(s, j, doing);
		if (!session_pause(s, left < job_poll(now_us() - began) ? left : job_poll(now_us() - began)))
			return QUALIFY_WAIT_STOPPED;
	}
}

/* ---- cancelling ---- */

void qualify_job_cancel(struct session *s)
{
	char id[16];
	char *argv[] = { (char[]){ "scancel" }, id, NULL };
	const int64_t until = now_us() + JOB_CANCEL_S * INT64_C(1000000);
	struct qualify_job j = { .id = s->job };
	struct err err;

	if (!s->job)
		return;
	snprintf(id, sizeof(id), "%u", s->job);
	if (session_do(argv, "cannot cancel it", "scancel: error: ", &err) < 0)
		session_say(s, "job %u: %s; cancel it yourself: scancel %u", s->job, err.text, s->job);
	else
		session_say(s, "job %u: cancelled", s->job);
	/* its processes get time for their SIGTERM; fsched cannot do without their end to have its epochs removed */
	while (now_us() < until && (qualify_job_look(&j, &err) == 0 ? !qualify_job_over(&j) : err.num != ESRCH))
		usleep(JOB_POLL_MIN_US);
	qualify_job_free(&j);
	s->job = 0;
}
