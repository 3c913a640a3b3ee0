/* The Checkpoint entry in an AdminComment, around which others write. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/util.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *text = xasprintf("%.*s", (int)size, (const char *)data);
	struct status s, again;

	if (status_parse(text, &s, NULL) < 0)
		memset(&s, 0, sizeof(s));
	/* Whatever was taken from it can be written, and is found again, once. */
	cleanup_free char *replaced = status_replace(text, &s);
	if (status_parse(replaced, &again, NULL) < 0 || s.interval != again.interval)
		abort();
	return 0;
}
