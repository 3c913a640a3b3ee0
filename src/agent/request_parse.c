#include "agent/request_parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"

static const char *const known_ops[] = { "create", "vacate", "status", "error", "able", "list" };

static int request_parse_op(const json_t *req, struct parsed_request *out, struct err *err)
{
	const char *op = json_string_value(json_object_get(req, "op"));

	for (size_t i = 0; op && i < ARRAY_SIZE(known_ops); i++) {
		if (strcmp(op, known_ops[i]) == 0) {
			snprintf(out->op, sizeof(out->op), "%s", op);
			return 0;
		}
	}
	return err_set(err, EINVAL,
		       "this operation is not known to the agent of the job: the client is of another version of fsched");
}

static int request_parse_nonce(const json_t *req, struct parsed_request *out, struct err *err)
{
	const char *nonce = json_string_value(json_object_get(req, "nonce"));

	if (!nonce || strlen(nonce) != PROTO_NONCE || strspn(nonce, "0123456789abcdef") != PROTO_NONCE)
		return err_set(err, EINVAL, "the request has no proper nonce");
	snprintf(out->nonce, sizeof(out->nonce), "%s", nonce);
	return 0;
}

int request_parse(const void *payload, size_t len, uid_t uid, const struct request_rules *r, struct parsed_request *out,
		  struct err *err)
{
	cleanup_json json_t *req = payload && len ? json_loadb(payload, len, 0, NULL) : NULL;
	const char *uuid = json_string_value(json_object_get(req, "uuid"));

	if (!json_is_object(req))
		return err_set(err, EINVAL, "the request is no JSON object");
	if (request_parse_nonce(req, out, err) < 0)
		return -1;
	if (json_integer_value(json_object_get(req, "v")) != PROTO_VERSION)
		return err_set(
			err, EINVAL,
			"the client speaks another version of the protocol: client and node must run the same version of fsched");
	if (request_parse_op(req, out, err) < 0)
		return -1;
	if (uid != 0 && uid != r->owner && uid != r->slurm_user)
		return err_set(err, EPERM,
			       "permission denied: only the owner of the job, root and SlurmUser may do this");
	/* a port may be another job's by now */
	if (json_integer_value(json_object_get(req, "job_id")) != (json_int_t)r->job_id || !uuid ||
	    strcmp(uuid, r->uuid) != 0)
		return err_set(err, EINVAL, "another job's agent listens at this address: look at the job again");
	return 0;
}
