/* One request to the agent of a job, by the protocol of src/agent/protocol.h. */
#ifndef FSCHED_CLI_USER_CLIENT_H
#define FSCHED_CLI_USER_CLIENT_H

#include <stdint.h>
#include <jansson.h>
#include "cli/progress.h"
#include "base/err.h"

struct client_target {
	const char *node; /* the job's batch host, for messages */
	const char *host; /* its address */
	const char *port;
	const char *munge_socket; /* "" = MUNGE's default */
	uint32_t job_id;
	const char *uuid;
	void (*on_sent)(void *arg); /* called when the request has been sent */
	void *arg;
};

enum client_outcome {
	CLIENT_DONE,     /* the agent answered "ok": *result */
	CLIENT_REFUSED,  /* the agent answered "not ok": *result, and its message in err */
	CLIENT_NOT_SENT, /* nothing reached the agent: err */
	CLIENT_NO_AGENT, /* the same: nobody listens at the address */
	CLIENT_SILENT,   /* the agent has the request, but no answer came in time: err; the operation continues
			  */
	CLIENT_LOST,     /* the connection ended without an answer: err; whether the agent did anything is not known */
};

/* timeout_s: how long to wait for the result; 0 = as long as the agent sends lines. The caller frees *result; NULL:
 * there was no answer. */
enum client_outcome client_request(const struct client_target *t, const char *op, int timeout_s, struct progress *p,
				   json_t **result, struct err *err);

#endif
