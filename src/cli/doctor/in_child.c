#include "cli/doctor/in_child.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"

#define LIMIT 30 /* s */

static _Noreturn void in_child_run(int (*fn)(const void *arg, FILE *out), const void *arg, const int fds[2])
{
	FILE *out = fdopen(fds[1], "w");
	int rc;

	close(fds[0]);
	dup2(fds[1], STDERR_FILENO);
	alarm(LIMIT); /* stays over an exec */
	rc = fn(arg, out);
	fflush(out);
	_exit(rc);
}

char *in_child(int (*fn)(const void *arg, FILE *out), const void *arg, size_t max, int *status)
{
	cleanup_free char *text = NULL;
	int fds[2], st;
	pid_t pid;

	*status = -1;
	if (pipe(fds) < 0)
		return xstrdup("cannot make a pipe");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		in_child_run(fn, arg, fds);
	close(fds[1]);
	if (read_all(fds[0], max, &text) < 0)
		text = NULL;
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &st, 0) < 0)
		return xstrdup("cannot start a process");
	if (WIFEXITED(st))
		*status = WEXITSTATUS(st);
	else if (WIFSIGNALED(st) && (!text || !*text))
		return xstrdup(WTERMSIG(st) == SIGALRM ? "no answer in time" : strsignal(WTERMSIG(st)));
	return text ? steal_ptr(&text) : xstrdup("");
}
