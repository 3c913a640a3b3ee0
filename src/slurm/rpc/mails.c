#define SLURM_BACKWARD_COMPAT
#include "slurm/rpc/mails.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "policy/mail.h"
#include "slurm/slurm_compat.h"

#define MAIL_SECONDS 30 /* for the mail program */

struct mail {
	uint32_t job;
	char address[256], user[64], name[64], subject[400];
};

struct seen_job {
	uint32_t job;
	struct mail_seen seen;
};

struct mails {
	struct seen_job *before, *now; /* before: sorted by job */
	size_t n_before, n_now;
	struct mail *due;
	size_t n_due;
	bool first, said; /* said: that there is no mail program */
};

struct mails *mails_new(void)
{
	struct mails *m = xcalloc(1, sizeof(*m));

	m->first = true;
	return m;
}

void mails_begin(struct mails *m)
{
	m->n_now = m->n_due = 0;
	m->now = NULL;
	m->due = NULL;
}

static int seen_by_job(const void *a, const void *b)
{
	const uint32_t x = ((const struct seen_job *)a)->job, y = ((const struct seen_job *)b)->job;

	return x < y ? -1 : x > y;
}

/* Of an array only those who want mails of each task get any, as with Slurm's own. */
static bool mails_wanted(const slurm_job_info_t *job)
{
	return job->mail_type & MAIL_JOB_REQUEUE && (!job->array_job_id || job->mail_type & MAIL_ARRAY_TASKS);
}

static void mails_add(struct mails *m, const slurm_job_info_t *job, enum mail_event event, const struct status *s)
{
	const struct passwd *pw = getpwuid(job->user_id);
	char text[300];
	struct mail *mail;

	m->due = xrealloc(m->due, (m->n_due + 1) * sizeof(*m->due));
	mail = &m->due[m->n_due];
	memset(mail, 0, sizeof(*mail));
	mail->job = RECORD_ID(job);
	snprintf(mail->user, sizeof(mail->user), "%s", pw ? pw->pw_name : "");
	snprintf(mail->address, sizeof(mail->address), "%s",
		 job->mail_user && *job->mail_user ? job->mail_user : mail->user);
	if (!mail_address_ok(mail->address)) {
		syslog(LOG_INFO,
		       "job %u: no mail is sent: its mail address has characters that a mail program could take for "
		       "more than an address",
		       mail->job);
		return;
	}
	printable(job->name ? job->name : "", mail->name, sizeof(mail->name));
	mail_text(event, s, text, sizeof(text));
	snprintf(mail->subject, sizeof(mail->subject), "Slurm Job_id=%u Name=%s Checkpoint: %s", mail->job, mail->name,
		 text);
	m->n_due++;
}

void mails_look(struct mails *m, const slurm_job_info_t *job, const struct status *s)
{
	static const struct mail_seen none = { .state = STATUS_UNKNOWN };
	const struct seen_job key = { .job = RECORD_ID(job) };
	const struct seen_job *old = m->n_before ? bsearch(&key, m->before, m->n_before, sizeof(key), seen_by_job) : NULL;
	enum mail_event event;

	m->now = xrealloc(m->now, (m->n_now + 1) * sizeof(*m->now));
	m->now[m->n_now].job = key.job;
	event = mail_decide(old ? &old->seen : &none, s, job->restart_cnt, &m->now[m->n_now].seen);
	m->n_now++;
	if (event != MAIL_NONE && !m->first && mails_wanted(job))
		mails_add(m, job, event, s);
}

/* ---- sending ---- */

static _Noreturn void mail_exec(const struct mail *mail, const char *program, const char *address)
{
	char option[] = "-s", *path = xstrdup(program), *subject = xstrdup(mail->subject), *to = xstrdup(address);
	char *argv[] = { path, option, subject, to, NULL };
	char *env[] = { xasprintf("SLURM_JOB_ID=%u", mail->job),
			xasprintf("SLURM_JOBID=%u", mail->job),
			xasprintf("SLURM_JOB_NAME=%s", mail->name),
			xasprintf("SLURM_JOB_USER=%s", mail->user),
			xstrdup("SLURM_JOB_MAIL_TYPE=Checkpoint"),
			xstrdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"),
			NULL };

	close_range(3, ~0U, 0);
	alarm(MAIL_SECONDS);
	execve(path, argv, env);
	_exit(127);
}

/* In a child: one after the other, so that a cluster on which many jobs are vacated does not start as many programs. */
static _Noreturn void mails_send(const struct mails *m, const char *program, const char *domain)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_NAME, "fsched-mail");
	signal(SIGCHLD, SIG_DFL);
	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	for (size_t i = 0; i < m->n_due; i++) {
		const struct mail *mail = &m->due[i];
		cleanup_free char *to = *domain && !strchr(mail->address, '@')
						? xasprintf("%s@%s", mail->address, domain)
						: xstrdup(mail->address);
		int status = -1;
		pid_t pid = fork();

		if (pid == 0)
			mail_exec(mail, program, to);
		while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (status != 0)
			syslog(LOG_WARNING, "job %u: %s has not sent the mail (wait status %d)", mail->job, program,
			       status);
	}
	_exit(0);
}

static void mails_start(struct mails *m)
{
	slurm_conf_t *conf = NULL;

	if (slurm_load_ctl_conf(0, &conf))
		return;
	if (!conf->mail_prog || access(conf->mail_prog, X_OK)) {
		if (!m->said)
			syslog(LOG_NOTICE, "no mails about checkpoints are sent: MailProg=%s cannot be run here",
			       conf->mail_prog ? conf->mail_prog : "");
		m->said = true;
	} else if (fork() == 0) {
		mails_send(m, conf->mail_prog, conf->mail_domain ? conf->mail_domain : "");
	}
	slurm_free_ctl_conf(conf);
}

void mails_end(struct mails *m)
{
	if (m->n_due)
		mails_start(m);
	free(m->due);
	m->due = NULL;
	free(m->before);
	m->before = m->now;
	m->n_before = m->n_now;
	if (m->n_before)
		qsort(m->before, m->n_before, sizeof(*m->before), seen_by_job);
	m->now = NULL;
	m->first = false;
}
