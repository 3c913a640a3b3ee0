/* What the job's user has to know and would not look for: a line in the job's error file. It is written by a child that
 * has become the user, since the path is his to change. */
#include "agent/agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/user.h"
#include "base/io.h"
#include "base/text.h"
#include "base/util.h"

#define TIMEOUT 60 /* s; the file system may not answer */

static int tell_main(void *arg, int out)
{
	const struct agent *a = arg;
	const struct task *t = &a->task;
	struct stat st;

	if (user_become(t->uid, t->gid, t->groups, (int)t->n_groups))
		return 1;
	cleanup_close int fd = open(t->error_file, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return 1;
	return write_all(fd, a->tell.text, strlen(a->tell.text)) ? 1 : 0;
}

void tell_user(struct agent *a, const char *text)
{
	struct proc_spec s = {
		.main = tell_main, .main_arg = a, .keep_all = true, .keep_fd = -1, .timeout_s = TIMEOUT, .arg = a
	};
	char clean[sizeof(a->tell.text) - 64];
	struct err err;

	if (!a->task.error_file[0] || proc_running(&a->tell.proc))
		return;
	printable(text, clean, sizeof(clean));
	snprintf(a->tell.text, sizeof(a->tell.text), "fsched: job %u: %s\n", a->task.job_id, clean);
	if (proc_start(&a->loop, &a->tell.proc, &s, &err) < 0)
		log_warn("the job's user cannot be told: %s", err.text);
}

/* A step of srun may have run just then. Without an epoch, or at the second time in a row, it is more than that. */
void tell_unprotected(struct agent *a, const char *why)
{
	bool epoch = false;
	char text[900];

	for (unsigned i = 0; i < a->rec.n_epochs; i++)
		epoch |= a->rec.epochs[i].run == a->rec.run;
	if (a->tell.said || (a->tell.failed++ == 0 && epoch))
		return;
	a->tell.said = true;
	snprintf(text, sizeof(text),
		 "periodic checkpoints fail: %.600s. The job runs on%s. This is said once; scontrol show job tells how it stands",
		 why, epoch ? ", saved as of its last epoch" : " and is not saved");
	tell_user(a, text);
}
