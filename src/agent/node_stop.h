/* Whether the node is being shut down. systemd then sends SIGTERM to every process, the job's and slurmstepd among
 * them, and slurmstepd would report that the job has failed. */
#ifndef FSCHED_AGENT_NODE_STOP_H
#define FSCHED_AGENT_NODE_STOP_H

#include <stdbool.h>
#include "agent/proc.h"

struct node_stop {
	struct proc proc;
	bool stops; /* as of the last answer. It stays true: a shutdown is not taken back */
	void (*done)(void *arg);
	void *arg;
};

/* Asks systemd. done() is called once: at once where there is no systemd, else later. Nothing happens while it is being
 * asked. */
void node_stop_ask(struct node_stop *n, struct loop *l, void (*done)(void *arg), void *arg);
static inline bool node_stop_asking(const struct node_stop *n)
{
	return proc_running(&n->proc);
}
/* Ends slurmstepd, the parent of this process, so that Slurm hears nothing of the job's end here: for slurmctld the
 * node fails, or is booted. Only while the node is shut down, as slurmd is, too. */
void node_stop_silence(const struct node_stop *n);

#endif
