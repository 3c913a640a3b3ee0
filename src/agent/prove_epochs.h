/* CheckpointProve: after an epoch is complete, a worker restores it on trial and throws that away (worker/prove.c). It
 * is no part of the job, gives way to everything on the node, and is given up when the job is to leave its node. */
#ifndef FSCHED_AGENT_PROVE_EPOCHS_H
#define FSCHED_AGENT_PROVE_EPOCHS_H

#include <stdbool.h>
#include <jansson.h>
#include "agent/job.h"
#include "agent/proc.h"
#include "agent/publish.h"

struct prove_epochs {
	struct job *job;
	struct publish *publish;
	struct proc worker;
	unsigned epoch; /* that is being proved */
	unsigned made;  /* epochs since the job was started here */
	bool given_up;
	json_t *result; /* owned */
};

/* An epoch is complete, and the job goes on. At most one is being proved at a time. */
void prove_epochs_made(struct prove_epochs *p, unsigned epoch);
/* Gives up what is under way. Does nothing if there is nothing. */
void prove_epochs_stop(struct prove_epochs *p);

#endif
