/* The answers to users' requests (protocol.h). */
#ifndef FSCHED_AGENT_ANSWER_H
#define FSCHED_AGENT_ANSWER_H

#include "agent/agent.h"

/* Carries out the request r for op, or answers it at once from what the agent knows. */
void answer_request(struct agent *a, struct request *r, const char *op);
/* Answers everybody who waits for the answer to "able". reason: why no checkpoint can be made, or NULL. */
void answer_able(struct agent *a, const char *reason);

#endif
