/* A job that this node cannot restore, but perhaps another: it goes back into the queue with this node excluded. The
 * nodes that have been tried are kept in its Checkpoint entry, so that their number is limited; it begins anew at the
 * first restart by a person. */
#ifndef FSCHED_AGENT_OTHER_NODE_H
#define FSCHED_AGENT_OTHER_NODE_H

#include <stdbool.h>
#include "agent/job.h"
#include "agent/rpc.h"

struct other_node {
	struct job *job;
	bool active;  /* Slurm is being asked */
	bool refused; /* it cannot be done */
	unsigned tries;
	unsigned epoch; /* which a person wants, see struct start_input */
	char why[400];
	struct rpc rpc;
	struct loop_timer retry;
	/* Called with arg. */
	void (*done)(void *arg);   /* set by the owner: Slurm has the job */
	void (*cannot)(void *arg); /* as given to other_node_begin() */
	void *arg;
};

/* tried: the nodes that have been tried, with commas in between. */
bool other_node_possible(const struct other_node *o, const char *tried);
/* Gives the job to Slurm for another node, because of why, to be restored from epoch (see struct start_input). done()
 * or cannot() follows. */
void other_node_begin(struct other_node *o, const char *why, unsigned epoch, void (*cannot)(void *arg));
void other_node_stop(struct other_node *o);

#endif
