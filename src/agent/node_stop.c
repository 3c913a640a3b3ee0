#include "agent/node_stop.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define SYSTEMD       "/run/systemd/system" /* it is there if systemd is process 1: sd_booted(3) */
#define SYSTEMCTL     "/usr/bin/systemctl"
#define NODE_STOP_MAX 20 /* s for its answer, which may be slow while everything is being ended */

static void node_stop_on_line(void *arg, char *line)
{
	struct node_stop *n = arg;

	n->stops = n->stops || strcmp(line, "stopping") == 0;
}

static void node_stop_on_end(void *arg, int wait_status)
{
	struct node_stop *n = arg;

	if (n->proc.timed_out)
		log_warn("systemd does not say in time whether the node is being shut down");
	n->done(n->arg); /* its exit status is a failure in each state but "running" */
}

void node_stop_ask(struct node_stop *n, struct loop *l, void (*done)(void *arg), void *arg)
{
	char program[] = SYSTEMCTL, question[] = "is-system-running";
	char *argv[] = { program, question, NULL };
	const struct proc_spec s = {
		.argv = argv,
		.keep_fd = -1,
		.timeout_s = NODE_STOP_MAX,
		.on_line = node_stop_on_line,
		.on_end = node_stop_on_end,
		.arg = n,
	};
	struct err err;

	if (node_stop_asking(n))
		return;
	n->done = done;
	n->arg = arg;
	if (access(SYSTEMD, F_OK) || access(SYSTEMCTL, X_OK)) {
		done(arg);
		return;
	}
	if (proc_start(l, &n->proc, &s, &err)) {
		log_warn("systemd cannot be asked whether the node is shut down: %s", err.text);
		done(arg);
	}
}

void node_stop_silence(const struct node_stop *n)
{
	if (n->stops)
		kill(getppid(), SIGKILL);
}
