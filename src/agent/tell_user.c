#include "agent/tell_user.h"

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
#include "files/files.h"

#define TELL_USER_TIMEOUT 60 /* s; the file system may not answer */

/* In a child that becomes the user, because the user may change what the path leads to. */
static int tell_user_main(void *arg, int out)
{
	const struct tell_user *t = arg;
	const struct task *task = &t->job->task;
	const char *name;
	struct stat st;

	if (user_become(task->uid, task->gid, task->groups, task->n_groups))
		return 1;
	/* Another user, in whose directory the file is, must not choose which file of the user gets the line. */
	cleanup_close int dir = files_open_dir(-1, task->error_file, task->uid, &name);
	if (dir < 0)
		return 1;
	cleanup_close int fd = openat(dir, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return 1;
	return write_all(fd, t->text, strlen(t->text)) ? 1 : 0;
}

static void tell_user_write(struct tell_user *t, const char *text)
{
	struct proc_spec s = { .main = tell_user_main,
			       .main_arg = t,
			       .keep_all = true,
			       .keep_fd = -1,
			       .timeout_s = TELL_USER_TIMEOUT,
			       .arg = t };
	char clean[sizeof(t->text) - 64];
	struct err err;

	if (!t->job->task.error_file[0] || proc_running(&t->proc))
		return;
	printable(text, clean, sizeof(clean));
	snprintf(t->text, sizeof(t->text), "fsched: job %u: %s\n", t->job->task.job_id, clean);
	if (proc_start(t->job->loop, &t->proc, &s, &err) < 0)
		log_warn("the job's user cannot be told: %s", err.text);
}

void tell_user_unprotected(struct tell_user *t, const char *why)
{
	bool epoch = job_has_epoch(t->job);
	char text[900];

	/* A job that has an epoch may just have run a step of srun, which passes. The user is told at the second
	 * failure in a row. */
	if (t->said || (t->failed++ == 0 && epoch))
		return;
	t->said = true;
	snprintf(text, sizeof(text),
		 "periodic checkpoints fail: %.600s. The job runs on%s. This is said once; scontrol show job shows the current state",
		 why, epoch ? ", saved as of its last epoch" : " and is not saved");
	tell_user_write(t, text);
}

void tell_user_protected(struct tell_user *t)
{
	t->failed = 0;
}
