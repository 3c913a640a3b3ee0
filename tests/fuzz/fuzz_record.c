/* job.json of a job's directory. A record that was accepted can be written, and is accepted again. */
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "base/util.h"
#include "base/json.h"
#include "fuzz.h"
#include "store/store_internal.h"

static bool parse(const char *text, size_t len, struct job_record *r)
{
	cleanup_json json_t *root = json_read_text(text, len, "record", NULL);

	return root && record_parse(root, r, NULL) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct job_record r, again;
	cleanup_free char *text = NULL;

	if (!parse((const char *)data, size, &r))
		return 0;
	text = record_render(&r);
	if (!text || !parse(text, strlen(text), &again) || again.n_epochs != r.n_epochs || again.intent != r.intent ||
	    again.status != r.status ||
	    (r.n_epochs && again.epochs[r.n_epochs - 1].number != r.epochs[r.n_epochs - 1].number))
		abort();
	return 0;
}
