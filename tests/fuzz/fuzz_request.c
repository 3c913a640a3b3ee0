/* The request of a client that MUNGE has authenticated. The first byte of the input chooses the uid of the client, the
 * rest is the payload of its credential. */
#include <stdlib.h>
#include <string.h>

#include "agent/request_parse.h"
#include "base/util.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct request_rules rules = {
		.job_id = 7, .uuid = "01234567-89ab-cdef-0123-456789abcdef", .owner = 1000, .slurm_user = 64030
	};
	static const uid_t who[] = { 0, 1000, 64030, 1001 };
	struct parsed_request req = { .op = "?" };
	struct err err = { 0 };
	uid_t uid;
	int rc;

	if (size == 0)
		return 0;
	uid = who[data[0] % ARRAY_SIZE(who)];
	rc = request_parse(size > 1 ? data + 1 : NULL, size - 1, uid, &rules, &req, &err);
	if (!memchr(req.op, '\0', sizeof(req.op)) || !memchr(req.nonce, '\0', sizeof(req.nonce)))
		abort();
	/* The nonce is copied into every answer, as it is. */
	if (req.nonce[0] && (strlen(req.nonce) != PROTO_NONCE || strspn(req.nonce, "0123456789abcdef") != PROTO_NONCE))
		abort();
	/* A refusal has a text. */
	if (rc < 0 ? !*err.text : uid == 1001 || req.op[0] == '?' || !req.nonce[0])
		abort();
	return 0;
}
