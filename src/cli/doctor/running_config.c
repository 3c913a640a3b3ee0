#include "cli/doctor/running_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/util.h"

#define LIMIT    30 /* s */
#define MAX_SIZE (1u << 20)

char *running_config_load(struct err *err)
{
	cleanup_free char *text = NULL;
	int fds[2], st = 0;
	ssize_t n;
	pid_t pid;

	if (pipe(fds) < 0)
		return err_sys(err, errno, "cannot make a pipe"), NULL;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		alarm(LIMIT); /* stays over the exec */
		execlp("scontrol", "scontrol", "show", "config", (char *)NULL);
		fprintf(stderr, "scontrol cannot be run: %s\n", strerror(errno));
		_exit(127);
	}
	close(fds[1]);
	n = read_all(fds[0], MAX_SIZE, &text);
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &st, 0) < 0 || n < 0)
		return err_set(err, ECHILD, "scontrol show config cannot be run"), NULL;
	if (st == 0)
		return steal_ptr(&text);
	text[strcspn(text, "\n")] = '\0';
	err_set(err, EIO, "%s", WIFSIGNALED(st) && !*text ? "no answer in time" : text);
	return NULL;
}

/* The value of "Key   = value". */
char *running_config_value(const char *config, const char *key)
{
	const size_t len = strlen(key);

	for (const char *p = config; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncasecmp(p, key, len) != 0 || (p[len] != ' ' && p[len] != '='))
			continue;
		p += len + strspn(p + len, " ");
		if (*p != '=')
			continue;
		p += 1 + strspn(p + 1, " ");
		if (strncmp(p, "(null)", 6) == 0)
			return NULL;
		return strndup(p, strcspn(p, "\n"));
	}
	return NULL;
}
