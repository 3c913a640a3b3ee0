/* What the launchers of a job have written of its steps, and steps.json. */
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "base/json.h"
#include "fuzz.h"
#include "store/steps.h"
#include "store/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct job_steps s;
	cleanup_json json_t *o = json_read_text((const char *)data, size, "steps", NULL);

	if (!o)
		steps_take(&s, data, size);
	else if (steps_parse(o, &s, NULL) < 0)
		return 0;
	for (unsigned i = 0; i < s.n; i++)
		if (s.v[i].step < 0 || s.v[i].status < 0 || !memchr(s.v[i].name, '\0', sizeof(s.v[i].name)))
			abort();
	return 0;
}
