/* One question to Slurm. A short-lived fsched-slurm asks it, so that a slow slurmctld does not block the agent. */
#ifndef FSCHED_AGENT_RPC_H
#define FSCHED_AGENT_RPC_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "agent/proc.h"

struct rpc {
	struct loop *loop;
	struct proc proc;
	json_t *answer; /* owned */
	void (*done)(void *arg, bool ok, const json_t *answer, const char *error);
	void *arg;
	char error[512];
	struct loop_timer failed; /* set: it could not even be started, and done has not been called yet */
};

/* Runs fsched-slurm OP JOBID [ARG]. done is called once, and not before rpc_start() has returned: ok with the answer,
 * or not ok with error and the answer, if there is one (owned by r). r must not be running; it is all zero the first
 * time. */
void rpc_start(struct loop *l, struct rpc *r, const char *libexec, int timeout_s, const char *op, uint32_t job_id,
	       const char *arg, void (*done)(void *, bool, const json_t *, const char *), void *done_arg);
/* True until done is called, also if the start has failed. */
static inline bool rpc_running(const struct rpc *r)
{
	return proc_running(&r->proc) || r->failed.at;
}
/* Ends it without a call of done; does nothing if it does not run. */
void rpc_forget(struct rpc *r);

#endif
