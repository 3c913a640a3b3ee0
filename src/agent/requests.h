/* Requests of users: the listening socket, and the agent's side of each connection. What comes from the network is read
 * by a child per connection (conn.h); the agent gets the authenticated operation and the uid from it. */
#ifndef FSCHED_AGENT_REQUESTS_H
#define FSCHED_AGENT_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "agent/job.h"
#include "agent/loop.h"
#include "agent/proc.h"
#include "agent/rpc.h"

#define REQUESTS_MAX 16 /* at a time */

struct requests;

struct request { /* from the connection to the end of its child */
	struct requests *all;
	pid_t pid;               /* the child of the connection, 0 = this slot is free */
	struct loop_source sock; /* to that child */
	struct loop_child child;
	int64_t since; /* now_us() */
	bool asked;    /* the operation has been read */
	bool waits;    /* the owner's mark: it waits for the check whether a checkpoint can be made */
	uid_t uid;
};

struct requests {
	struct job *job;
	struct loop_source listen; /* fd -1 before the first use */
	struct loop_timer resume;
	unsigned burst; /* connections since burst_began */
	int64_t burst_began;
	unsigned refused; /* since refused_logged */
	int64_t refused_logged;
	unsigned port; /* 0 = it has not listened yet */
	uid_t slurm_user;
	char error[256]; /* why nobody can ask, "" = they can; the status shows it as long as it lasts */
	struct rpc where;
	struct proc resolve;
	struct request slots[REQUESTS_MAX];
	/* Set by the owner, called with arg. */
	void (*ask)(void *arg, struct request *r, const char *op); /* op is one that request_parse.c knows */
	void (*gone)(void *arg, struct request *r);                /* nobody waits for its answer any more */
	void (*listening)(void *arg);                              /* port is set */
	void (*failed)(void *arg);                                 /* error is set */
	void *arg;
};

/* Asks Slurm for this node's address and listens there; listening() or failed() follows. */
void requests_start(struct requests *all);
/* Stops waiting for Slurm's answer. */
void requests_forget_start(struct requests *all);
/* Listens no more. Connections that have asked are kept until they have their answer. */
void requests_stop(struct requests *all);
/* True if there is no connection. */
bool requests_idle(const struct requests *all);

/* Each of these does nothing when r is NULL: nobody waits. */
void request_phase(struct request *r, const char *name);
void request_result(struct request *r, json_t *result); /* takes the reference; the last answer of r */
/* The last answer: op was not done because of error; state: what happens to the job now. */
void request_refuse(struct request *r, const char *op, const char *error, const char *state);

#endif
