/* Checks the request of a client (protocol.h) that MUNGE has authenticated. Depends on its arguments only. */
#ifndef FSCHED_AGENT_REQUEST_PARSE_H
#define FSCHED_AGENT_REQUEST_PARSE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "agent/protocol.h"
#include "base/err.h"

/* The job that the agent serves, and who may send requests besides root. */
struct request_rules {
	uint32_t job_id;
	const char *uuid;
	uid_t owner, slurm_user;
};

struct parsed_request {
	char op[16];
	char nonce[PROTO_NONCE + 1];
};

/* payload: len bytes that uid has sent, may be NULL. 0, or -1 with err if the request is to be refused. Sets each
 * member of *out that is valid, also if the request is refused; leaves the others as they were. */
int request_parse(const void *payload, size_t len, uid_t uid, const struct request_rules *r, struct parsed_request *out,
		  struct err *err);

#endif
