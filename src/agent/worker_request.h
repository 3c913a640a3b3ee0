/* What the agent writes to the stdin of fsched-worker, as JSON (docs/internals.md). */
#ifndef FSCHED_AGENT_WORKER_REQUEST_H
#define FSCHED_AGENT_WORKER_REQUEST_H

#include <jansson.h>
#include "agent/job.h"
#include "agent/pod_watch.h"

/* What every request to a worker holds. */
json_t *worker_request(const struct job *j);
/* The same for an operation on the pod that runs. agent_port: where this agent listens, 0 = nowhere. */
json_t *worker_request_pod(const struct job *j, const struct pod_watch *pod, unsigned agent_port, unsigned epoch);
/* The text of o, to be freed; takes the reference. */
char *worker_request_text(json_t *o);

#endif
