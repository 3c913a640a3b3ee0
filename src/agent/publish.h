/* The job's Checkpoint entry in AdminComment (base/status.h). Slurm gets at most one update per event, always of the
 * newest state, and later if slurmctld is away. */
#ifndef FSCHED_AGENT_PUBLISH_H
#define FSCHED_AGENT_PUBLISH_H

#include <stdbool.h>
#include "agent/job.h"
#include "agent/rpc.h"
#include "base/status.h"

struct publish {
	struct job *job;
	struct status status; /* the owner fills it in, except what job_describe_epochs() knows */
	bool last_chance;     /* set by the owner when the agent is about to end: nothing waits for a retry any more */
	bool may_be_refused;  /* set by the owner: Slurm takes no status of a cancelled job, so a failure is no news */
	bool dirty;           /* status has changed since the last update began */
	unsigned tries;       /* failed updates since the last success */
	struct rpc rpc;
	struct loop_timer retry;
};

/* Sends status to Slurm, or does so after the update that is under way or after the pause of an outage. */
void publish_now(struct publish *p);
/* The same with a new state or error text in it. */
void publish_state(struct publish *p, enum status_state state);
void publish_error(struct publish *p, const char *error);
/* Ends the update under way and forgets changes that Slurm has not got. */
void publish_give_up(struct publish *p);
/* True if no update runs and none is due, other than a retry. */
bool publish_idle(const struct publish *p);

#endif
