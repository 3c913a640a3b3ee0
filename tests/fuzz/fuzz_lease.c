/* The lease of a job. */
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "base/json.h"
#include "fuzz.h"
#include "store/lease.h"
#include "store/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_json json_t *o = json_read_text((const char *)data, size, "lease", NULL);
	struct lease l = { 0 };

	if (o && lease_parse(o, &l, NULL) == 0 &&
	    (l.pid < 0 || !memchr(l.host, '\0', sizeof(l.host)) || !memchr(l.boot_id, '\0', sizeof(l.boot_id))))
		abort();
	return 0;
}
