/* What jobs with a network of their own need. fsched-net tries it in a namespace of its own (net/main.c). */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/doctor/doctor_report.h"
#include "cli/plugstack.h"

#define WHAT "PodNetwork"

static void network_report_line(const struct conf *c, char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (!strncmp(line, "warning ", 8))
		doctor_report(FINDING_WARNING, WHAT, "%s", line + 8);
	else if (!strncmp(line, "failed ", 7))
		doctor_report(FINDING_WARNING, WHAT,
			      "a job that begins here uses the node's network, and one that was saved with a network of its own "
			      "cannot be restored here: %s",
			      line + 7);
	else
		doctor_report(FINDING_OK, WHAT, "jobs can have a network of their own (addresses of %s)", c->net_range);
}

void doctor_network(const struct conf *c, bool root)
{
	cleanup_free char *dir = plugstack_libexec(), *path = xasprintf("%s/fsched-net", dir),
			  *range = xstrdup(c->net_range);
	char *argv[] = { path, (char[]){ "check" }, range, NULL };
	cleanup_free char *line = NULL;
	cleanup_file FILE *out = NULL;
	size_t room = 0;
	bool said = false;
	int ends[2];
	pid_t pid;

	if (c->network != CONF_NETWORK_PRIVATE)
		return;
	if (!root) {
		doctor_needs_root(WHAT);
		return;
	}
	if (pipe2(ends, O_CLOEXEC))
		return;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (dup2(ends[1], STDOUT_FILENO) >= 0)
			execv(path, argv);
		_exit(127);
	}
	close(ends[1]);
	out = fdopen(ends[0], "r");
	while (out && getline(&line, &room, out) > 0) {
		network_report_line(c, line);
		said = true;
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (!said)
		doctor_report(FINDING_FAILED, WHAT, "%s cannot be run; install fsched completely on this node", path);
}
