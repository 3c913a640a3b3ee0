/* The process that waits to become the job's script (docs/internals.md), as the agent sees it: a socket. */
#ifndef FSCHED_AGENT_GATE_H
#define FSCHED_AGENT_GATE_H

#include <stdbool.h>
#include "agent/loop.h"

struct gate {
	struct loop *loop;
	struct loop_source sock; /* fd -1 = the process does not wait any more */
	/* Set by the owner, called with arg. */
	void (*ready)(void *arg);
	/* The answer to "keep N": the output of the run before has been copied (ok), and what has the names of the
	 * copies or is ""; or what says why it has not. The process is the user's, so the words may be anything. */
	void (*kept)(void *arg, bool ok, const char *what);
	void *arg;
};

/* Watches fd, which belongs to g from then on. 0 or -1. */
int gate_watch(struct gate *g, int fd);
static inline bool gate_open(const struct gate *g)
{
	return g->sock.fd >= 0;
}
/* Asks the process for something while it waits. 0 or -1: it has ended. */
int gate_send(struct gate *g, const char *text);
/* Lets the process go on: "run", "exit", ... Does nothing if it does not wait any more. */
void gate_answer(struct gate *g, const char *answer);

#endif
