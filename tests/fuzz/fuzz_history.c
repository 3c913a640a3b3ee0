/* history.json. */
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "base/json.h"
#include "fuzz.h"
#include "store/history.h"
#include "store/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct job_history h;
	cleanup_json json_t *o = json_read_text((const char *)data, size, "history", NULL);
	struct history_event e;

	if (!o || history_parse(o, &h, NULL) < 0)
		return 0;
	if (h.n > HISTORY_EVENTS || h.tally.failed.n > HISTORY_REASONS)
		abort();
	for (unsigned i = 0; i < h.n; i++) {
		if (h.v[i].until < h.v[i].time || h.v[i].kind >= HISTORY_KINDS ||
		    !memchr(h.v[i].reason, '\0', sizeof(h.v[i].reason)))
			abort();
	}
	e = (struct history_event){ .kind = HISTORY_FAILED };
	history_add(&h, &e);
	return 0;
}
