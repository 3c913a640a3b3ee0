/* Events that fsched-worker sends to the agent, one JSON object a line (docs/internals.md). */
#ifndef FSCHED_AGENT_WORKER_EVENT_H
#define FSCHED_AGENT_WORKER_EVENT_H

#include <jansson.h>
#include <sys/types.h>

enum worker_event_kind {
	WORKER_EVENT_UNKNOWN, /* no JSON object, or an event without the members that its kind needs */
	WORKER_EVENT_PHASE,   /* name is set */
	WORKER_EVENT_HELD,    /* an epoch is durable, and the processes are still frozen */
	WORKER_EVENT_POD,     /* in a restore: the processes of the pod exist and do not run yet; init is set */
	WORKER_EVENT_RESULT,  /* the last event */
};

struct worker_event {
	enum worker_event_kind kind;
	json_t *o;        /* the object; NULL if the line is not JSON */
	const char *name; /* of a phase; part of o */
	pid_t init;       /* host pid of pid 1 of the pod, 0 = none or out of range */
};

/* Parses a line, and sets all members of *e. The caller frees *e with worker_event_free(), whatever kind it is. */
void worker_event_parse(const char *line, struct worker_event *e);
void worker_event_free(struct worker_event *e);

#endif
